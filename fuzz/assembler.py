"""Coverage-guided fuzzing of how chunks become an answer: fields, types and orders of events.

    pip install atheris
    python -m fuzz.assembler --seconds 300

An input is a recipe: its bytes choose, one after another, the endpoint and what each event says, so
that mutations change what is said and not how it is framed (for that see `fuzz.event_stream`). A
finding is written to `crash-…` in the working directory: make it a seed in `fuzz/seeds/assembler`,
under a name that says what it is, and the tests will check it from then on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from fuzz.engine import run
from fuzz.event_stream import ANSWER_LIMIT, ENDPOINTS, pieces, read

SEEDS = Path(__file__).parent / "seeds" / "assembler"

_ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        0.0,
        1.5,
        10**18,
        1e308,
        "",
        "0",
        "a",
        "null",
        "\ud83d",
        "\ude00",
    ),
    *([], {}, [None], [[]], {"": None}, "stop", "error", "abort", ["stop"], {"type": "stop"}),
    *("{}", '{"a":1}', "{", [{"index": 0}], [{"index": "1", "type": "text", "text": "t"}]),
)
_FRAME = (
    *("id", "object", "created", "model", "usage", "error", "system_fingerprint", "x_groq"),
    *("base_resp", "type", "message", "detail", "code", "citations"),
)
_CHOICE = ("index", "finish_reason", "logprobs", "text", "message", "error", "token_ids", "delta")
_DELTA = (
    *("role", "content", "reasoning", "reasoning_content", "refusal", "tool_calls", "audio"),
    *("function_call", "annotations", "images", "reasoning_details", "name", "format", "data"),
)
_CALL = ("index", "id", "type", "function", "name", "arguments", "extra")
_FUNCTION = ("name", "arguments", "extra")
_PART = ("type", "text", "thinking", "index", "refusal", "image_url")
_PART_TYPES = ("text", "thinking", "image_url", "reasoning", "output_text")
_LOGPROBS = ("content", "refusal", "tokens", "token_logprobs", "top_logprobs", "text_offset")
_EVENTS = (
    *("response.output_text.delta", "response.reasoning_summary_text.delta", "response.created"),
    *("response.function_call_arguments.delta", "response.output_item.added"),
    *("response.output_item.done", "response.completed", "response.incomplete"),
    *("response.done", "response.cancelled", "response.failed", "error", "response.refusal.delta"),
)
_EVENT = (
    *("type", "delta", "output_index", "content_index", "summary_index", "item", "response"),
    *("item_id", "error"),
)
_ITEM = ("type", "content", "summary", "arguments", "status", "role", "name", "output", "id")
_MOST_EVENTS = 40
DONE = b"data: [DONE]\n\n"


class _Recipe:
    """Choices read from bytes; past their end every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._data)

    def number(self, below: int) -> int:
        byte = self._data[self._next] if self else 0
        self._next += 1
        return byte % below

    def one_of(self, options: tuple[Any, ...]) -> Any:
        return options[self.number(len(options))]

    def some_of(self, names: tuple[str, ...]) -> list[str]:
        return [self.one_of(names) for _ in range(self.number(4))]

    def is_odd(self) -> bool:
        return self.number(8) == 7


_Field: TypeAlias = Callable[[_Recipe, str], Any]


def events(recipe: _Recipe, endpoint: str) -> list[Any]:
    """What the events of a stream say, odd in some places and as usual in others."""
    make = _response_event if endpoint.endswith("/responses") else _chunk
    made: list[Any] = []
    while recipe and len(made) < _MOST_EVENTS:
        made.append(recipe.one_of(_ODD) if recipe.number(32) == 31 else make(recipe))
    return made


def _chunk(recipe: _Recipe) -> dict[str, Any]:
    chunk = {name: recipe.one_of(_ODD) for name in recipe.some_of(_FRAME)}
    chunk["choices"] = _list(recipe, _choice)
    return chunk


def _choice(recipe: _Recipe) -> dict[str, Any]:
    choice = {name: _choice_field(recipe, name) for name in recipe.some_of(_CHOICE)}
    if not recipe.is_odd():
        choice["index"] = recipe.number(3)
        choice["delta"] = _object(recipe, _DELTA, _delta_field)
    return choice


def _choice_field(recipe: _Recipe, name: str) -> Any:
    if recipe.is_odd():
        return recipe.one_of(_ODD)
    if name in ("delta", "message"):
        return _object(recipe, _DELTA, _delta_field)
    if name == "logprobs":
        return _object(recipe, _LOGPROBS, lambda inner, _: _list(inner, _odd))
    return {"finish_reason": "stop", "index": recipe.number(3)}.get(name, "a")


def _delta_field(recipe: _Recipe, name: str) -> Any:
    if recipe.is_odd():
        return recipe.one_of(_ODD)
    if name == "tool_calls":
        return _list(recipe, lambda inner: _object(inner, _CALL, _call_field))
    if name in ("content", "reasoning_details", "images") and recipe.number(2):
        return _list(recipe, lambda inner: _object(inner, _PART, _part_field))
    return "assistant" if name == "role" else "a"


def _call_field(recipe: _Recipe, name: str) -> Any:
    if recipe.is_odd():
        return recipe.one_of(_ODD)
    if name == "function":
        return _object(recipe, _FUNCTION, lambda inner, _: inner.one_of(("f", "{", "}", "{}", "")))
    return recipe.number(3) if name == "index" else recipe.one_of(("a", "b", ""))


def _part_field(recipe: _Recipe, name: str) -> Any:
    if recipe.is_odd():
        return recipe.one_of(_ODD)
    return recipe.one_of(_PART_TYPES) if name == "type" else "a"


def _response_event(recipe: _Recipe) -> dict[str, Any]:
    event = {name: _event_field(recipe, name) for name in recipe.some_of(_EVENT)}
    return event if recipe.is_odd() else {**event, "type": recipe.one_of(_EVENTS)}


def _event_field(recipe: _Recipe, name: str) -> Any:
    if recipe.is_odd():
        return recipe.one_of(_ODD)
    if name in ("item", "response"):
        return _object(recipe, _ITEM, lambda inner, _: inner.one_of(_ODD))
    return recipe.number(3) if name.endswith("_index") else "a"


def _object(recipe: _Recipe, names: tuple[str, ...], value: _Field) -> dict[str, Any]:
    return {name: value(recipe, name) for name in recipe.some_of(names)}


def _list(recipe: _Recipe, entry: Callable[[_Recipe], Any]) -> Any:
    if recipe.is_odd():
        return recipe.one_of(_ODD)
    return [entry(recipe) for _ in range(1 + recipe.number(3))]


def _odd(recipe: _Recipe) -> Any:
    return recipe.one_of(_ODD)


def stream(data: bytes) -> tuple[str, int, bytes]:
    """The endpoint, how many bytes arrive at a time, and the stream that an input stands for."""
    recipe = _Recipe(data)
    endpoint, step = recipe.one_of(ENDPOINTS), 1 + recipe.number(32)
    said = events(recipe, endpoint)
    return (
        endpoint,
        step,
        b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in said) + DONE,
    )


def check(data: bytes) -> None:
    """Fail when events, in whichever order and of whichever types, break a promise.

    Nothing but an answer or an InferenceError comes out, as JSON and as typed chunks; an answer is
    an object of a size that the limit bounds; and it is the same however its bytes were cut.
    """
    endpoint, step, wire = stream(data)
    whole = read(endpoint, iter([wire]))
    cut = read(endpoint, pieces(wire, step, step))
    assert whole == cut, (whole, cut)
    if isinstance(whole, bytes):
        assert isinstance(json.loads(whole), dict)
        assert len(whole) <= 10 * ANSWER_LIMIT


if __name__ == "__main__":
    run(check, "how chunks become an answer", SEEDS, ())
