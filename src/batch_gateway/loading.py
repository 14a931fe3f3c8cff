"""Ctrl-C while the command is still being loaded: it leaves, without a traceback.

Loading takes some tenths of a second, in which the package's own `__init__` is the first of its
code that runs, and this its first import. Nothing is touched in a process that merely imports
the package.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

__all__ = ["loaded", "unguarded"]

_COMMANDS = frozenset({"batch-gateway", "batch-gateway.exe"})
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED = 130


def loaded() -> None:
    """The command takes over: Ctrl-C is KeyboardInterrupt again."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in usual.items():
        if signal.getsignal(number) is _leave:
            signal.signal(number, handler)


def unguarded() -> None:
    """The command has said its last word; what is left is the interpreter's."""
    if _guarded:
        _set(signal.SIG_IGN)


def _is_the_command() -> bool:
    program = sys.argv[0] if sys.argv else ""
    if os.path.basename(program) in _COMMANDS:  # noqa: PTH119 - pathlib is slow to load
        return True
    given = sys.orig_argv
    return program == "-m" and ("-m", "batch_gateway") in itertools.pairwise(given)


def _set(handler: object) -> None:
    for number in _SIGNALS:
        # Who started us may want a signal ignored, as nohup does.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    try:
        os.write(2, b"Interrupted; nothing was sent.\n")
    finally:
        os._exit(_INTERRUPTED)


_guarded = _is_the_command()
if _guarded:
    _set(_leave)
