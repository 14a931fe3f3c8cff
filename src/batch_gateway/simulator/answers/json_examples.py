"""A value that fits a JSON schema, for structured output and tool arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from batch_gateway.simulator.answers.words import fraction, words_for

__all__ = ["example_for"]

_MAX_DEPTH = 16


def example_for(schema: object, seed: bytes, depth: int = 0) -> Any:
    """A value for the common part of JSON Schema: types, properties, items, enum, const, anyOf.

    References and everything else that is not understood give text.
    """
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return " ".join(words_for(seed, 2))
    fields = cast("Mapping[str, Any]", schema)
    if "const" in fields:
        return fields["const"]
    for key in ("enum", "anyOf", "oneOf"):
        options = fields.get(key)
        if isinstance(options, list) and options:
            listed = cast("list[Any]", options)
            choice = listed[int(fraction(seed) * len(listed))]
            return choice if key == "enum" else example_for(choice, seed, depth + 1)
    return _example_of_type(_type_of(fields), fields, seed, depth)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        return str(cast("list[Any]", kind)[0]) if kind else "string"
    return str(kind)


def _example_of_type(kind: str, schema: Mapping[str, Any], seed: bytes, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties")
        named = cast("Mapping[str, Any]", properties if isinstance(properties, Mapping) else {})
        return {
            name: example_for(part, seed + name.encode(), depth + 1) for name, part in named.items()
        }
    if kind == "array":
        size = max(1, int(schema.get("minItems", 1)))
        item = schema.get("items")
        return [example_for(item, seed + bytes([i % 256]), depth + 1) for i in range(size)]
    number = float(schema.get("minimum", 0)) + int(fraction(seed) * 10)
    simple: dict[str, Any] = {
        "integer": int(number),
        "number": number,
        "boolean": fraction(seed) < 0.5,
        "null": None,
    }
    return simple[kind] if kind in simple else " ".join(words_for(seed, 2))
