"""Templates in which all that is not of the template itself is escaped, and nothing is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from batch_gateway.report.shown_text import short_text, shown_text

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["templates_of"]


def templates_of(folder: Path, **filters: Callable[..., str]) -> Environment:
    """The templates of `folder`, which have `filters` beside those that all have."""
    # Only who wants a page pays for importing it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    usual: dict[str, Callable[..., str]] = {
        "short": short_text,
        "shown": shown_text,
        "whole": "{:,}".format,
    }
    environment.filters.update(usual | filters)  # pyright: ignore[reportUnknownMemberType]
    return environment
