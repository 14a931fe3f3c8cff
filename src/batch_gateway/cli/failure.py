"""The one way in which a command fails with a message for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import click

from batch_gateway.cli.exit_codes import ExitCode

__all__ = ["CommandFailure", "internal_failure"]


class CommandFailure(click.ClickException):
    """Ends the command with a message, details below it, and an exit code.

    `message` is one sentence; `details` are printed one a line, indented.
    """

    def __init__(
        self, message: str, *, details: Sequence[str] = (), code: ExitCode = ExitCode.BAD_INPUT
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = tuple(details)

    def show(self, file: IO[Any] | None = None) -> None:
        lines = [f"Error: {self.message}", *(f"  {detail}" for detail in self.details)]
        click.echo("\n".join(lines), file=file, err=file is None)


def internal_failure(error: BaseException, told: str) -> CommandFailure:
    """For an exception that nobody expected; `told` says where its traceback is."""
    return CommandFailure(
        f"batch-gateway itself failed ({type(error).__name__}); this is a fault of the program, not"
        f" yours: {told}",
        details=[
            "Please report it, with that file if there is nothing private in it.",
            "Results that were written are safe, and the same command goes on with the rest.",
        ],
        code=ExitCode.INTERNAL_ERROR,
    )
