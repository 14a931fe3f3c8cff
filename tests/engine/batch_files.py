"""Batch files for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

# Each example writes a file: the folder may be shared by them, and a busy disk takes its time.
FILES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CHAT = "/v1/chat/completions"


def request(custom_id: str = "a", *, model: str = "m", **changes: Any) -> dict[str, Any]:
    """A good chat request; a change of None takes a field away."""
    line: dict[str, Any] = {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": model, "messages": [{"role": "user", "content": f"hello {custom_id}"}]},
        **changes,
    }
    return {name: value for name, value in line.items() if value is not None}


def text_of(requests: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in requests)


def write_batch(path: Path, lines: int, **changes: Any) -> Path:
    """`lines` good requests with the custom_ids "id-0", "id-1", …"""
    path.write_bytes(text_of(request(f"id-{number}", **changes) for number in range(lines)))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def ids_in(path: Path) -> list[str]:
    return [line["custom_id"] for line in read_lines(path)]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
