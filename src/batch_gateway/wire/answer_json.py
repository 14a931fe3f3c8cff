"""The JSON that a model was asked for, found in the words that it answered with. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Never

import msgspec

__all__ = ["NO_JSON", "json_in_text"]

NO_JSON = (ValueError, RecursionError)
"""What `json_in_text` raises."""

# What models put around JSON though they were asked for nothing else.
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\s*", re.DOTALL)


def json_in_text(text: str) -> Any:
    """The value of a text that is JSON, be it within one fence of Markdown or behind thoughts.

    JSON amid other words is none. Raises one of `NO_JSON`, whose words go on from "is not JSON: ".
    """
    text = _THOUGHTS.sub("", text, count=1) if text.lstrip().startswith("<think>") else text
    fenced = _FENCE.fullmatch(text)
    within = fenced[1] if fenced else text
    if not within.strip():
        raise ValueError("there is nothing")
    try:
        return msgspec.json.decode(within)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # A second opinion: msgspec refuses half a surrogate pair, which JSON allows.
        return json.loads(within, parse_constant=_refuse)


def _refuse(constant: str) -> Never:
    raise ValueError(f"it holds {constant}, which JSON has no word for")
