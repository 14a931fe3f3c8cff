"""From the answer to a list back to the answers to its members.

Each part has the shape of the answer to a single request: one entry, index 0, everything else as
the gateway sent it. Token counts are shared out so that they add up to what the gateway counted:
prompt tokens by the length of the prompts, generated ones by the length of the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from batch_gateway.wire.chunks import decode_json, encode_json
from batch_gateway.wire.json_check import read_json

__all__ = ["UnsplittableError", "share_out", "split"]

T = TypeVar("T")

# Values are Raw, JSON as it came, or decoded, when Raw cannot be had.
_Fields: TypeAlias = dict[str, Any]
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_OUTPUT_COUNTS = ("completion_tokens", "output_tokens")


class UnsplittableError(Exception):
    """The answer does not have one entry for each member."""


def split(body: bytes, prompt_weights: Sequence[int]) -> list[bytes]:
    """The parts of a joint answer, in the order of the members.

    `prompt_weights` say how long each member's prompt is. Raises UnsplittableError.
    """
    try:
        fields, name, entries = _read(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # Half an emoji, as models emit them at a token limit, is JSON all the same.
        fields, name, entries = _read_decoded(body)
    ordered = _in_order(entries, len(prompt_weights))
    output_weights = [_length_of(entry.get("text")) for entry in ordered]
    usages = _usages(fields.get("usage"), prompt_weights, output_weights)
    parts: list[bytes] = []
    for entry, usage in zip(ordered, usages, strict=True):
        part = {**fields, name: [{**entry, "index": 0}]}
        if usage is not None:
            part["usage"] = usage
        parts.append(encode_json(part))
    return parts


def _read(body: bytes) -> tuple[_Fields, str, list[_Fields]]:
    fields = _decode(body)
    name = _list_name(fields)
    return fields, name, _decode_entries(fields[name])


def _read_decoded(body: bytes) -> tuple[_Fields, str, list[_Fields]]:
    try:
        fields = decode_json(body)
    except ValueError as error:
        raise UnsplittableError(str(error)) from error
    name = _list_name(fields)
    entries = fields[name]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):  # pyright: ignore[reportUnknownVariableType]
        raise UnsplittableError(f"{name!r} is not a list of objects")
    return fields, name, entries  # pyright: ignore[reportUnknownVariableType]


def _list_name(fields: Any) -> str:
    names = [name for name in ("data", "choices") if name in fields]
    if len(names) != 1:
        raise UnsplittableError("it has neither 'data' nor 'choices'")
    return names[0]


def _in_order(entries: list[_Fields], count: int) -> list[_Fields]:
    by_index = {_as_int(entry.get("index")): entry for entry in entries}
    if len(entries) != count or by_index.keys() != set(range(count)):
        raise UnsplittableError(f"it has {len(entries)} entries for {count} inputs")
    return [by_index[index] for index in range(count)]


def _as_int(value: Any) -> int | None:
    try:
        number = msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
    except msgspec.MsgspecError:
        return None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _length_of(text: Any) -> int:
    if isinstance(text, msgspec.Raw):
        return len(bytes(text)) - len(b'""')
    return len(text) if isinstance(text, str) else 0


def _usages(
    usage: Any, prompt_weights: Sequence[int], output_weights: Sequence[int]
) -> list[dict[str, Any] | None]:
    if isinstance(usage, msgspec.Raw):
        usage = read_json(bytes(usage))
    if not isinstance(usage, dict):
        return [None] * len(prompt_weights)
    return list(_shared_usage(usage, prompt_weights, output_weights))  # pyright: ignore[reportUnknownArgumentType]


def _shared_usage(
    usage: dict[str, Any], prompt_weights: Sequence[int], output_weights: Sequence[int]
) -> list[dict[str, Any]]:
    shares: list[dict[str, Any]] = [{} for _ in prompt_weights]
    for name, value in usage.items():
        is_output = name.startswith(("completion", "output"))
        weights = output_weights if is_output else prompt_weights
        if isinstance(value, dict):
            parts: Sequence[Any] = _shared_usage(value, weights, weights)  # pyright: ignore[reportUnknownArgumentType]
        elif _is_count(value):
            parts = share_out(int(value), weights)
        else:
            parts = [value] * len(shares)
        for share, part in zip(shares, parts, strict=True):
            share[name] = part
    _add_up(usage, shares)
    return shares


def _is_count(value: Any) -> bool:
    """Some servers write a count as `7.0`."""
    if isinstance(value, float):
        return value >= 0 and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _add_up(usage: dict[str, Any], shares: list[dict[str, Any]]) -> None:
    """Make each total the sum of its own parts, where the joint one is."""
    parts = [name for name in ("prompt_tokens", *_OUTPUT_COUNTS) if name in usage]
    counts = [usage[name] for name in parts]
    if not parts or not all(map(_is_count, counts)):
        return
    if usage.get("total_tokens") == sum(counts):
        for share in shares:
            share["total_tokens"] = sum(share[name] for name in parts)


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts that are proportional to `weights` and add up to it exactly.

    By the method of the largest remainder; equal parts when nobody has any weight.
    """
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    shares = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares
