"""What the command sets up before it is loaded: Ctrl-C then leaves without a traceback, and
Python's garbage collector seldom looks around.

Loading takes some tenths of a second, in which the package's own `__init__` is the first of its
code that runs, and this its first import. Nothing is touched in a process that merely imports
the package.
"""

from __future__ import annotations

import gc
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
# Loading makes a hundred thousand objects that stay, and a thousand requests under way are some
# ten thousand that come and go together. With Python's 700 the collector looks through the young
# ones all the time and hardly ever finds garbage: a tenth of the CPU of a start, and of a run.
_OBJECTS_BETWEEN_COLLECTIONS = 10_000


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
        # It would look for garbage among all that is left, twice; the system takes it as it is.
        gc.freeze()


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
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
