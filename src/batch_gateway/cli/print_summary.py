"""Printing the summary where it belongs."""

from __future__ import annotations

import sys

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.standard_streams import write_json, write_stderr, write_stdout
from batch_gateway.cli.summary import RunReport, StyledText, as_json, as_text, plain
from batch_gateway.cli.terminal_text import printable

__all__ = ["print_summary"]


def print_summary(report: RunReport, *, as_json_object: bool, quiet: bool) -> None:
    """JSON on stdout; or the text there; or, if quiet, one line on stderr when not all is well."""
    if as_json_object:
        write_json(as_json(report))
    elif not quiet:
        text = as_text(report)
        shown = _with_colours(text) if sys.stdout.isatty() else plain(text)
        write_stdout(shown.removesuffix("\n"))
    if quiet and report.exit_code != ExitCode.SUCCEEDED:
        headline = plain(as_text(report)).partition("\n\n")[0].replace("\n", "; ")
        write_stderr(printable(headline))


def _with_colours(text: StyledText) -> str:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only terminals want it
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout)
    with console.capture() as capture:
        console.print(Text.assemble(*text), soft_wrap=True, end="")
    return capture.get()
