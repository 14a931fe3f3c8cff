"""`batch-gateway run`: a batch file through a gateway, resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from batch_gateway.cli.dry_run import prices_of, show_requests
from batch_gateway.cli.exit_codes import EXIT_CODE_MEANINGS
from batch_gateway.cli.input_options import asked_of_input, dry_run_options, input_options
from batch_gateway.cli.options import GroupedCommand, option, setting_options
from batch_gateway.cli.run_batch_file import run_batch_file
from batch_gateway.settings.table import settings_of

__all__ = ["run"]

_CODES = "\n".join(f"  {int(code):>3}  {text}" for code, text in EXIT_CODE_MEANINGS.items())
_FIRST = (
    *("--gateway", "--output", "--model", "--template", "--limit", "--dry-run"),
    *("--concurrency", "--api-key-file", "--retry-failed", "--table"),
)
_EPILOG = f"""\
Examples:
  batch-gateway run examples/requests.jsonl --gateway simulator
  batch-gateway run reviews.csv --gateway http://llm-d:8000 --model llama-3 \\
      --template 'Is this review positive? {{review}}' --table answers.csv

The same command again goes on where it stopped: finished lines are never sent twice.

Exit codes:
{_CODES}
"""
_MORE = """\
A flag wins over the environment, the environment over the config file. Every flag has a variable:
BATCH_GATEWAY_URL for --gateway, BATCH_GATEWAY_TIMEOUT for --timeout, and so on; and the key itself
may be in BATCH_GATEWAY_API_KEY. Durations are seconds or such as 90s, 5m, 1h30m.
"""


@click.command(
    cls=GroupedCommand,
    first=_FIRST,
    more=_MORE,
    short_help="Send every request of a batch file and keep what comes.",
    epilog=_EPILOG,
)
@click.argument("file", metavar="FILE")
@input_options
@option("Input", "--endpoint", metavar="PATH", help="What prompts are for.  [chat completions]")
@option("Input", "--reuse", metavar="FILE", multiple=True, type=click.Path(path_type=Path),
        help="Take answers to the same lines from earlier results; repeatable.")  # fmt: skip
@dry_run_options
@setting_options(settings_of("run"))
@click.pass_obj
def run(
    arguments: list[str],
    *,
    file: str,
    config: Path | None,
    endpoint: str | None,
    dry_run: bool,
    price: Mapping[str, str] | None,
    reuse: Sequence[Path],
    **flags: Any,
) -> int:
    """Send every request of FILE, or one for each of its rows (- is standard input).

    FILE is JSON lines, CSV, TSV, Parquet or text, which may be compressed, or a URL. Results and
    failures are written as they come; progress goes to stderr.
    """
    asked = asked_of_input(flags, endpoint)
    if dry_run:
        return show_requests(file, asked, flags, price, dry_run=True)
    prices = prices_of(price or {})
    return run_batch_file(arguments, file, config, flags, asked=asked, reuse=reuse, prices=prices)
