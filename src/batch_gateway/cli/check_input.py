"""From the FILE argument to a checked plan."""

from __future__ import annotations

import sys

from batch_gateway.cli.progress_display import Display
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.source import FileSource

__all__ = ["STANDARD_INPUT", "check_input", "display_name"]

STANDARD_INPUT = "-"


def check_input(file: str, display: Display) -> Plan:
    """Run the first pass and show how far it is. Raises InputError.

    The caller closes the plan.
    """
    try:
        if file != STANDARD_INPUT:
            return make_plan(file, on_progress=display.checking)
        if sys.stdin.isatty():
            display.note("Reading requests from standard input; Ctrl-D ends them.")
        return make_plan(FileSource.spool(sys.stdin.buffer), on_progress=display.checking)
    finally:
        display.close()


def display_name(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file
