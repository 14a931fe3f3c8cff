"""Prints the fields of a dashboard that Grafana's own classes do not know: those that are gone
when a dashboard was read into them and is written out again. Runs where they are installed."""

# Grafana's classes live in an environment of their own.
# pyright: reportMissingImports=false
from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def gone(before: Any, after: Any, place: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name not in after:
                yield f"{place}.{name}"
            else:
                yield from gone(value, after[name], f"{place}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (value, other) in enumerate(zip(before, after, strict=True)):
            yield from gone(value, other, f"{place}[{number}]")
    elif before != after:
        yield place


plugins.register_default_plugins()
dashboard = json.loads(Path(sys.argv[1]).read_text("utf-8"))
known = Dashboard.from_json(copy.deepcopy(dashboard))
print("\n".join(gone(dashboard, json.loads(JSONEncoder().encode(known)), "")))
