"""`batch-gateway validate`: the first pass alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from batch_gateway.cli.check_input import STANDARD_INPUT, check_input, display_name
from batch_gateway.cli.choose_display import choose_display
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.input_options import asked_of_input, input_options
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.options import GroupedCommand, option
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import one_line, printable
from batch_gateway.engine.plan import Plan
from batch_gateway.errors import InputError

__all__ = ["validate"]

_EPILOG = """\
Examples:
  batch-gateway validate requests.jsonl
  zcat requests.jsonl.gz | batch-gateway validate - --json

Exit codes: 0 every line can be sent, 2 there are problems.
"""

_FIRST = (
    *("--template", "--template-file", "--system", "--model", "--param", "--id-column"),
    *("--limit", "--input-format", "--endpoint", "--json"),
)


@click.command(
    cls=GroupedCommand,
    first=_FIRST,
    short_help="Check a batch file without sending anything.",
    epilog=_EPILOG,
)
@click.argument("file", metavar="FILE")
@input_options
@option("Input", "--endpoint", metavar="PATH", help="What prompts are for.  [chat completions]")
@option("Output", "--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def validate(file: str, endpoint: str | None, as_json: bool, **flags: Any) -> int:
    """Check every line of FILE without sending anything; - is standard input.

    With the options under Input, what its rows become; see batch-gateway run.
    """
    asked = asked_of_input(flags, endpoint)
    display = choose_display(sys.stderr, quiet=as_json)
    with Interrupts(display.leave):
        try:
            with check_input(file, display, asked) as plan:
                _report(file, plan, as_json)
        except InputError as error:
            if not as_json:
                raise
            _print_json(file, {"valid": False, "error": str(error), "problems": error.problems})
            return ExitCode.BAD_INPUT
    return ExitCode.SUCCEEDED


def _report(file: str, plan: Plan, as_json: bool) -> None:
    if as_json:
        found = {"valid": True, "requests": plan.total, "bytes": plan.size_bytes}
        _print_json(file, {**found, "models": plan.models, "problems": []})
        return
    counts = (f"\n  {one_line(model)}  {count:,}" for model, count in plan.models.items())
    write_stdout(
        f"{printable(display_name(file))} is valid:"
        f" {counted(plan.total, 'request')}{''.join(counts)}"
    )


def _print_json(file: str, found: Mapping[str, Any]) -> None:
    write_json({"file": file if file == STANDARD_INPUT else display_name(file), **found})
