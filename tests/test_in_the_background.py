"""The tests themselves as a job in the background, where a shell has Ctrl-C ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_A_TEST_OF_CTRL_C = (
    "tests/client/test_blocking.py::test_an_interrupt_ends_the_wait_and_aborts_the_request"
)


def test_commands_are_interrupted_there_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _A_TEST_OF_CTRL_C],
        cwd=_ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
