"""`batch-gateway run`: a batch file through a gateway, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batch_gateway.cli.exit_codes import EXIT_CODE_MEANINGS
from batch_gateway.cli.options import GroupedCommand, setting_options
from batch_gateway.cli.run_batch_file import run_batch_file
from batch_gateway.settings.table import settings_of

__all__ = ["run"]

_CODES = "\n".join(f"  {int(code):>3}  {text}" for code, text in EXIT_CODE_MEANINGS.items())
_EPILOG = f"""\
Examples:
  batch-gateway run examples/requests.jsonl --gateway simulator
  batch-gateway run requests.jsonl --gateway http://llm-d:8000 -o results.jsonl
  batch-gateway run requests.jsonl --config gateway.yaml --deadline 2h --json > summary.json

The same command again goes on where it stopped: finished lines are never sent twice.
A flag wins over the environment, the environment over the config file. Every flag has a variable:
BATCH_GATEWAY_URL for --gateway, BATCH_GATEWAY_TIMEOUT for --timeout, and so on; and the key itself
may be in BATCH_GATEWAY_API_KEY. Durations are seconds or such as 90s, 5m, 1h30m.

Exit codes:
{_CODES}
"""


@click.command(
    cls=GroupedCommand,
    short_help="Send every request of a batch file and keep what comes.",
    epilog=_EPILOG,
)
@click.argument("file", metavar="FILE")
@setting_options(settings_of("run"))
@click.pass_obj
def run(arguments: list[str], file: str, config: Path | None, **flags: Any) -> int:
    """Send every request of the batch FILE (JSON lines; - is standard input).

    Results and failures are written as they come; progress goes to stderr.
    """
    return run_batch_file(arguments, file, config, flags)
