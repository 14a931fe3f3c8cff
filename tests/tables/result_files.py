"""Files of results as a run leaves them, for tests of tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from batch_gateway.wire.lines import line_id

FINGERPRINT = "0123456789abcdef"


def result(
    custom_id: str, body: Any, *, index: int | None = None, status: int = 200
) -> dict[str, Any]:
    """A line with an answer; without an `index` as of another program."""
    own = f"batch_req_{custom_id}" if index is None else line_id(FINGERPRINT, index)
    response = {"status_code": status, "request_id": own, "body": body}
    return {"id": own, "custom_id": custom_id, "response": response, "error": None}


def failure(custom_id: str, code: str, message: str, **more: Any) -> dict[str, Any]:
    """A line of a request that had no answer."""
    error = {"code": code, "message": message, **more}
    return {
        "id": f"batch_req_{custom_id}",
        "custom_id": custom_id,
        "response": None,
        "error": error,
    }


def chat(text: str | None, *, reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat answer."""
    choice = {"index": 0, "message": {"content": text, **message}, "finish_reason": reason}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))
