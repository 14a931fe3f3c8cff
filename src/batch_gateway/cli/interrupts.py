"""Ctrl-C, SIGTERM and SIGHUP: the first asks a run to stop, the second leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Self

from batch_gateway.cli.exit_codes import ExitCode

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Of a terminal that closed, or of a job that is preempted. Windows has none.
_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)


class Interrupts:
    """Owns the signals while it is entered. Only for the main thread.

    Until `on_first` is called the first signal raises KeyboardInterrupt, which is right while
    nothing has been sent. Afterwards it calls the given function, in the main thread between two
    instructions, so that function may do little more than set a flag.

    The second signal ends the process without unwinding: the journal is made for a process that
    dies at any moment, and whatever hangs must not hold up a person who asked twice. SIGHUP is
    never a second one: a shell and the kernel both send it when a terminal closes. Where it is
    ignored, as under nohup, it stays so. The others are heeded even where they were ignored, as
    Ctrl-C is in the background of a script: nothing else stops that job and keeps what it has.
    """

    def __init__(self, before_leaving: Callable[[], None] = lambda: None) -> None:
        self._before_leaving = before_leaving
        self._on_first: Callable[[], None] | None = None
        self._previous: dict[int, Any] = {}
        self.count = 0

    def on_first(self, call: Callable[[], None]) -> None:
        """From now on the first signal calls `call`."""
        self._on_first = call

    def __enter__(self) -> Self:
        signals = [*_SIGNALS]
        if _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
            signals.append(_HANG_UP)
        for number in signals:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == _HANG_UP and self.count:
            return
        self.count += 1
        if self.count > 1:
            self._leave()
        if self._on_first is None:
            raise KeyboardInterrupt
        self._on_first()

    def _leave(self) -> NoReturn:
        try:
            self._before_leaving()
        finally:
            os._exit(ExitCode.INTERRUPTED)
