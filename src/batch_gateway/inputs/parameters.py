"""Parameters of requests: those that rows may have among their columns, and those of `--param`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from batch_gateway.errors import ConfigError

__all__ = ["REQUEST_PARAMETERS", "nested", "parameter", "with_defaults"]

# OpenAI's API reference and vLLM's additions, without those that are likely to be columns of
# data: text, n, user, documents and others, for which there is `--param`.
REQUEST_PARAMETERS: Final = frozenset(
    {
        "best_of",
        "chat_template_kwargs",
        "dimensions",
        "encoding_format",
        "frequency_penalty",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "ignore_eos",
        "instructions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "min_p",
        "min_tokens",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "seed",
        "stop",
        "stop_token_ids",
        "structured_outputs",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "truncate_prompt_tokens",
    }
)
"""Columns of a row that are sent as they are, where a row is a request by itself."""

# Each has its own way of being given, or is refused in every line.
_OTHERWISE: Final = {
    "model": "--model",
    "messages": "--template",
    "prompt": "--template",
    "input": "--template",
    "stream": "a batch, which has whole answers",
    "background": "a batch, which waits for its answers",
}
_decode = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parameter(name: str, text: str) -> tuple[tuple[str, ...], Any]:
    """The path and the value of `name=text`: JSON, or else the text. Raises ConfigError."""
    path = tuple(name.split("."))
    if not all(path):
        raise ConfigError("param", f"{name!r:.80} is not a name, or names with dots between them")
    if path[0] in _OTHERWISE:
        raise ConfigError("param", f"{path[0]} is the business of {_OTHERWISE[path[0]]}")
    try:
        return path, _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        if text.lstrip()[:1] in ("{", "["):
            raise ConfigError(
                "param", f"the value of {name} begins like JSON and is none"
            ) from None
        return path, text


def nested(given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters as `--param` has them, objects for names with dots. Raises ConfigError."""
    found: dict[str, Any] = {}
    for name, text in given.items():
        path, value = parameter(name, text)
        place = found
        for step in path[:-1]:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                raise ConfigError("param", f"{name} is within {step}, which is given as a value")
            place = cast("dict[str, Any]", inner)
        if path[-1] in place:
            raise ConfigError("param", f"{name} is given twice, once as an object")
        place[path[-1]] = value
    return found


def with_defaults(body: dict[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Puts into `body` what it has not itself, objects within too; whether there was any.

    Values of `body` may be raw JSON.
    """
    changed = False
    for name, value in defaults.items():
        own = body.get(name)
        if name not in body:
            body[name] = value
            changed = True
        elif (
            isinstance(value, Mapping)
            and (inner := _as_object(own)) is not None
            and with_defaults(inner, cast("Mapping[str, Any]", value))
        ):
            body[name] = inner
            changed = True
    return changed


def _as_object(value: object) -> dict[str, Any] | None:
    if isinstance(value, msgspec.Raw):
        try:
            return cast("dict[str, Any]", _decode_object(value))
        except msgspec.DecodeError:
            return None
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else None
