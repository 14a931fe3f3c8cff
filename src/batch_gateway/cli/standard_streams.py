"""The standard streams, which may be closed, full, without a reader or without UTF-8."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys

import click

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.terminal_text import printable_json

__all__ = ["drop_stdout", "prepare_streams", "write_json", "write_stderr", "write_stdout"]


def prepare_streams() -> None:
    """Make printing safe whatever this process was started with.

    A stream that was closed is empty and swallows what it is given. A character that the stream's
    encoding does not have, or a byte of a file's name that is not UTF-8, is escaped; so JSON stays
    JSON.
    """
    # In this order each takes its own descriptor, the lowest free one, before a result file does.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - for good
            setattr(sys, name, nothing)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_stdout(text: str) -> None:
    """Print `text` and a line break; a reader that went away, as `| head` does, is no error.

    Raises CommandFailure when it cannot be written for another reason, such as a full disk.
    """
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        reason = error.strerror or str(error)
        raise CommandFailure(
            f"standard output cannot be written: {reason}", code=ExitCode.NOT_WRITTEN
        ) from error


def write_json(value: object) -> None:
    """Print `value` as JSON for a program, harmless also for a terminal. See `write_stdout`."""
    write_stdout(printable_json(json.dumps(value, ensure_ascii=False, indent=2)))


def write_stderr(text: str) -> None:
    """Say `text` to whoever still reads messages."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)


def drop_stdout() -> None:
    """Send the rest nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
