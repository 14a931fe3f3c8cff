"""Writing to standard output, whose reader may go away."""

from __future__ import annotations

import os
import sys

import click

__all__ = ["drop_stdout", "write_stdout"]


def write_stdout(text: str) -> None:
    """Print `text` and a line break; a reader that went away, as `| head` does, is no error."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def drop_stdout() -> None:
    """Send the rest nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
