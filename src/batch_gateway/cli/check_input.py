"""From the FILE argument to a checked plan."""

from __future__ import annotations

import sys

from batch_gateway.cli.input_options import in_flags
from batch_gateway.cli.progress_display import Display
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.source import FileSource
from batch_gateway.errors import ConfigError
from batch_gateway.inputs.read_input import InputOptions, plan_of
from batch_gateway.inputs.read_requests import open_source
from batch_gateway.inputs.remote_source import is_remote, shown_url

__all__ = ["STANDARD_INPUT", "check_input", "display_name"]

STANDARD_INPUT = "-"


def check_input(file: str, display: Display, asked: InputOptions) -> Plan:
    """Read what is asked of the input, check it, and show how far that is.

    The caller closes the plan. Raises InputError and ConfigError.
    """
    try:
        if file != STANDARD_INPUT:
            source = open_source(file)
        else:
            if sys.stdin.isatty():
                display.note("Reading requests from standard input; Ctrl-D ends them.")
            source = FileSource.spool(sys.stdin.buffer)
        return plan_of(source, asked, on_progress=display.checking, note=display.note)
    except ConfigError as error:
        raise in_flags(error) from error
    finally:
        display.close()


def display_name(file: str) -> str:
    if is_remote(file):
        return shown_url(file)
    return "standard input" if file == STANDARD_INPUT else file
