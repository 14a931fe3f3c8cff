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
    INTERNAL_ERROR = 5
    CONDITION_HOLDS = 6
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.SUCCEEDED: "every line succeeded",
    ExitCode.SOME_FAILED: "the run is finished and some lines failed",
    ExitCode.BAD_INPUT: "the input, a setting or the usage is wrong; nothing was sent",
    ExitCode.GATEWAY_UNUSABLE: "the gateway refuses, the deadline passed, or too many lines failed;"
    " lines are left",
    ExitCode.NOT_WRITTEN: "results could not be written, a full disk for example; lines are left",
    ExitCode.INTERNAL_ERROR: "a fault of batch-gateway itself; the results so far are safe",
    ExitCode.CONDITION_HOLDS: "the run is finished and a condition of --fail-if holds",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C, SIGTERM or SIGHUP; the same command goes on",
}
