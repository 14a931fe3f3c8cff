"""What the command's exit code means: the one table."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["EXIT_CODE_MEANINGS", "ExitCode"]


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    SUCCEEDED = 0
    SOME_FAILED = 1
    BAD_INPUT = 2
    GATEWAY_UNUSABLE = 3
    NOT_WRITTEN = 4
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.SUCCEEDED: "every line succeeded",
    ExitCode.SOME_FAILED: "the run is finished and some lines failed",
    ExitCode.BAD_INPUT: "the input, a setting or the usage is wrong; nothing was sent",
    ExitCode.GATEWAY_UNUSABLE: "the gateway cannot be used, or the deadline passed; lines are left",
    ExitCode.NOT_WRITTEN: "results could not be written, a full disk for example; lines are left",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C or SIGTERM; the same command goes on",
}
