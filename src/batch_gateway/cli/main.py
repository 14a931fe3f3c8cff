"""The `batch-gateway` command: its subcommands, and how every failure leaves it."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure, internal_failure
from batch_gateway.cli.options import CommandGroup
from batch_gateway.cli.standard_streams import drop_stdout, prepare_streams
from batch_gateway.cli.terminal_text import printable
from batch_gateway.errors import ConfigError, InputError, JournalError
from batch_gateway.loading import loaded, unguarded
from batch_gateway.version import __version__

__all__ = ["main"]

_ALIKE = 3
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_COMMANDS = (
    "batches",
    "compare",
    "convert",
    "doctor",
    "keys",
    "migrate",
    "pick",
    "run",
    "serve",
    "simulate",
    "table",
    "validate",
)


class _Commands(CommandGroup):
    """The subcommands, each a module of its name that is loaded when somebody asks for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            module = importlib.import_module(f"batch_gateway.cli.{cmd_name}")
            self.add_command(getattr(module, cmd_name))
        return self.commands.get(cmd_name)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="batch-gateway %(version)s")
def cli() -> None:
    """Run large numbers of LLM requests through an OpenAI-compatible inference gateway.

    \b
    Try it:  batch-gateway run examples/requests.jsonl --gateway simulator
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit the process with one of `ExitCode`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        loaded()
        prepare_streams()
        warnings.formatwarning = _one_line
        code = cli.main(given, prog_name="batch-gateway", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
        code = ExitCode.SUCCEEDED
    except KeyboardInterrupt:
        code = _show(click.Abort())
    except (click.ClickException, click.Abort, ConfigError, InputError, JournalError) as error:
        code = _show(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, no traceback reaches a person
        code = _show(_fault(error, given))
    unguarded()
    sys.exit(code or ExitCode.SUCCEEDED)


def _fault(error: Exception, given: Sequence[str]) -> CommandFailure:
    """What a person is told of an exception that nobody expected, whose traceback is in a file."""
    # Loaded with the client, which most of what ends here does not need.
    from batch_gateway.cli.crash_report import CrashReport  # noqa: PLC0415

    return internal_failure(error, CrashReport().note(error, shlex.join(given[:1])))


def _show(error: Exception) -> ExitCode:
    """Tell a person what went wrong; the exit code for it."""
    if isinstance(error, JournalError):
        error = CommandFailure(str(error), code=_journal_code(error))
    elif isinstance(error, ConfigError):
        error = CommandFailure(f"{error.field}: {error.problem}", details=error.problems)
    elif isinstance(error, InputError):
        error = CommandFailure(str(error), details=_alike_once(error.problems))
    # Whoever read our messages may be gone.
    with contextlib.suppress(OSError, ValueError):
        if isinstance(error, click.Abort):
            click.echo("Interrupted; nothing was sent.", err=True)
        elif isinstance(error, click.ClickException):
            text = io.StringIO()
            error.show(text)
            click.echo(printable(text.getvalue()), nl=False, err=True)
    if isinstance(error, click.Abort):
        return ExitCode.INTERRUPTED
    return error.code if isinstance(error, CommandFailure) else ExitCode.BAD_INPUT


def _alike_once(problems: Sequence[str]) -> Sequence[str]:
    """The first three where the lines of a file all have one problem, as they do in a table."""
    of_lines = [one for one in problems if one.startswith("line ")]
    words = {one.partition(": ")[2] for one in of_lines}
    if len(words) != 1 or len(of_lines) <= _ALIKE:
        return problems
    return [*problems[:_ALIKE], "and all other lines that were looked at, likewise"]


def _journal_code(error: JournalError) -> ExitCode:
    """A disk that does not take results is another matter than a wrongly named file."""
    cause = error.__cause__
    disk = isinstance(cause, OSError) and cause.errno in _DISK_ERRORS
    return ExitCode.NOT_WRITTEN if disk else ExitCode.BAD_INPUT


def _one_line(message: Warning | str, *_: object) -> str:
    return f"Warning: {printable(str(message))}\n"
