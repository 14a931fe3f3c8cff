"""Printing the summary where it belongs."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import printable
from batch_gateway.cli.stdout import write_stdout
from batch_gateway.cli.summary import RunReport, as_json, as_text

__all__ = ["show_report"]


def show_report(report: RunReport, *, as_json_object: bool, quiet: bool) -> None:
    """JSON on stdout; or the text there; or, if quiet, one line on stderr when not all is well."""
    if as_json_object:
        write_stdout(json.dumps(as_json(report), ensure_ascii=False, indent=2))
    elif not quiet:
        console = Console(file=sys.stdout)
        with console.capture() as capture:
            console.print(as_text(report), soft_wrap=True, end="")
        write_stdout(capture.get().removesuffix("\n"))
    if quiet and report.exit_code != ExitCode.SUCCEEDED:
        headline = as_text(report).plain.partition("\n\n")[0].replace("\n", "; ")
        click.echo(printable(headline), err=True)
