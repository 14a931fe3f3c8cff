"""Whether an answer is the JSON that a schema asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from batch_gateway.errors import ConfigError
from batch_gateway.extras import command_for
from batch_gateway.wire.answer_json import NO_JSON, json_in_text
from batch_gateway.wire.answer_text import answer_text
from batch_gateway.wire.short_text import short_text

__all__ = ["INVALID_ANSWER", "JSONSchema"]

INVALID_ANSWER = "invalid_answer"
"""The code of an answer that is not the JSON that was asked for."""

_WITH_WORDS = ("choices", "output")
_LONGEST_PROBLEM = 200


class JSONSchema:
    """A JSON schema, checked itself; of draft 2020-12 unless it says another.

    Nothing is fetched for it. Raises ConfigError with `place` for what is no schema, for a
    reference to what is not in it, and where the package `jsonschema` is not installed.
    """

    def __init__(self, schema: Any, place: str = "json_schema") -> None:
        try:
            # An extra, and slow to load.
            library: Any = import_module("jsonschema")
        except ImportError as error:
            raise ConfigError(
                place,
                f"needs jsonschema: install it with `{command_for('json-schema')}`",
            ) from error
        kind = library.validators.validator_for(schema, library.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except library.SchemaError as error:
            words = short_text(error.message, _LONGEST_PROBLEM)
            raise ConfigError(place, f"is no JSON schema: at {error.json_path}, {words}") from error
        dead = _dead_reference(schema)
        if dead is not None:
            raise ConfigError(
                place, f"has a $ref to {dead!r:.120}, which is not in it: put that under $defs"
            )
        self._text = json.dumps(schema, sort_keys=True)
        self._best: Any = library.exceptions.best_match
        # With a registry of its own no reference is looked up in the network.
        self._validator: Any = kind(schema, registry=import_module("referencing").Registry())

    @classmethod
    def from_file(cls, path: Path, place: str = "json_schema") -> JSONSchema:
        """Raises ConfigError for a file that cannot be read, too."""
        try:
            schema = json.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise ConfigError(place, f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(place, f"{path} is not JSON: {error}") from error
        return cls(schema, place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JSONSchema) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"JSONSchema({short_text(self._text, 80)})"

    def problem(self, text: str) -> str | None:
        """What is wrong with an answer in these words; None where nothing is."""
        try:
            value = json_in_text(text)
        except NO_JSON as error:
            return f"the answer is not JSON: {short_text(str(error), _LONGEST_PROBLEM)}"
        try:
            error = self._best(self._validator.iter_errors(value))
        except RecursionError:
            return "the answer is nested too deeply to be checked"
        if error is None:
            return None
        words = short_text(error.message, _LONGEST_PROBLEM)
        return f"the answer is not what the schema says: at {error.json_path}, {words}"

    def problem_of_body(self, body: bytes) -> str | None:
        """The same for the body of an answer; all of its choices have to be right.

        Answers that are no words, as embeddings are, and calls of tools are not looked at.
        """
        answer = _read(body)
        if not any(isinstance(answer.get(name), list) for name in _WITH_WORDS):
            return None
        choices: list[Any] = answer.get("choices") or []
        answers = [{"choices": [choice]} for choice in choices] or [answer]
        problems = (self._problem_of(one) for one in answers)
        return next((problem for problem in problems if problem is not None), None)

    def _problem_of(self, answer: dict[str, Any]) -> str | None:
        text = answer_text(answer)
        return None if not text and _calls_a_tool(answer) else self.problem(text)


def _read(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _calls_a_tool(answer: dict[str, Any]) -> bool:
    if "choices" not in answer:
        kinds = (_field(item, "type") for item in answer["output"])
        return any(str(kind).endswith("_call") for kind in kinds)
    message = _field(answer["choices"][0], "message")
    return any(_field(message, name) for name in ("tool_calls", "function_call"))


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _dead_reference(schema: Any) -> str | None:
    """A reference to what is not in the schema; of one bundled from several, none is looked at."""
    parts = list(_parts(schema))
    if len({part["$id"] for part in parts if isinstance(part.get("$id"), str)}) > 1:
        return None
    library: Any = import_module("referencing")
    draft: Any = import_module("referencing.jsonschema").DRAFT202012
    root = library.Resource.from_contents(schema, default_specification=draft)
    resolver = library.Registry().resolver_with_root(root)
    for part in parts:
        reference = part.get("$ref")
        if isinstance(reference, str):
            try:
                resolver.lookup(reference)
            except library.exceptions.Unresolvable:
                return reference
    return None


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield cast("dict[str, Any]", part)
            waiting.extend(cast("dict[str, Any]", part).values())
        elif isinstance(part, list):
            waiting.extend(cast("list[Any]", part))
