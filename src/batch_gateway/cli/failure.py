"""The one way in which a command fails with a message for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import click

from batch_gateway.cli.exit_codes import ExitCode

__all__ = ["CommandFailure"]


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
