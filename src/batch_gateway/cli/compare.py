"""`batch-gateway compare`: the figures of two runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import click

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.options import GroupedCommand, option
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.cli.text_table import text_table

__all__ = ["compare"]

_PATH = click.Path(path_type=Path)
_COMPARED = (
    "succeeded", "failed", "left", "retries", "cost", "duration_seconds", "requests_per_second",
    "tokens_per_second", "usage.input_tokens", "usage.output_tokens", "cut_off.length",
    "cut_off.content_filter", "cut_off.incomplete",
)  # fmt: skip
_SINGLE = ("latency_seconds", "time_to_first_token_seconds", "tokens_per_second")
_PERCENTILES = ("min", "mean", "p50", "p90", "p95", "p99", "max")
_EPILOG = """\
Examples:
  batch-gateway run requests.jsonl --gateway http://llm-d:8000 --report-data before.json
  batch-gateway compare before.json after.json
"""


@click.command(cls=GroupedCommand, short_help="Compare the figures of two runs.", epilog=_EPILOG)
@click.argument("before", metavar="BEFORE", type=_PATH)
@click.argument("after", metavar="AFTER", type=_PATH)
@option("Display", "--json", "as_json", is_flag=True, help="The comparison as one JSON object.")
def compare(*, before: Path, after: Path, as_json: bool) -> None:
    """Compare two runs by what `run --json` or `run --report-data` wrote of each."""
    rows = list(_rows(_figures(before), _figures(after)))
    if as_json:
        write_json(
            {name: {"before": one, "after": two, "change": _change(one, two)}
             for name, one, two in rows}
        )  # fmt: skip
        return
    table = [[name, _text(one), _text(two), _percent(_change(one, two))] for name, one, two in rows]
    write_stdout(printable(text_table(["figure", "before", "after", "change"], table)))


def _figures(path: Path) -> Mapping[str, Any]:
    cure = "give what run --json printed, or run --report-data wrote as .json"
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandFailure(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CommandFailure(f"{path} is no JSON: {cure}") from error
    if not isinstance(found, dict) or not {"outcome", "percentiles"} <= found.keys():
        raise CommandFailure(f"{path} has no figures of a run: {cure}")
    return cast("dict[str, Any]", found)


def _rows(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, float | None, float | None]]:
    """(name, before, after) of what one of the runs knows."""
    names = [
        *_COMPARED,
        *(f"percentiles.{one}.{which}" for one in _SINGLE for which in _PERCENTILES),
    ]
    for name in names:
        one, two = _at(before, name), _at(after, name)
        if one is not None or two is not None:
            yield name, one, two


def _at(figures: Mapping[str, Any], name: str) -> float | None:
    found: Any = figures
    for key in name.split("."):
        found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found if is_number else None


def _change(before: float | None, after: float | None) -> float | None:
    """As a share of what was before; None where that is nothing."""
    return None if not before or after is None else round(after / before - 1, 4)


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _percent(change: float | None) -> str:
    return "" if change is None else f"{change:+.1%}"
