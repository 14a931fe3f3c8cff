"""A plan as bytes, so that another process runs it without checking the input again."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import Final

import msgspec

from batch_gateway.engine.first_pass import FirstPass
from batch_gateway.engine.grouping import Grouping, PackedGroups
from batch_gateway.engine.line_blocks import LineTooLongError
from batch_gateway.engine.line_index import LineIndex, PackedLines
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.source import Source
from batch_gateway.errors import InputError, PlanError

__all__ = ["dump_plan", "load_plan"]

# The header: what it is, its version, and the BLAKE2b of that and of all that follows.
_MAGIC: Final = b"\x93batch-gateway plan\r\n"
_VERSION: Final = 1
_DIGEST_BYTES: Final = 32
_HEADER = struct.Struct(f"<{len(_MAGIC)}sH{_DIGEST_BYTES}s")


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What follows the header, as MessagePack. `content` is the BLAKE2b of the plan's source."""

    fingerprint: str
    content: bytes
    lines: PackedLines
    groups: PackedGroups


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


def dump_plan(plan: Plan) -> bytes:
    """The plan to be stored or sent; some six bytes a line.

    Reads the source, to know it again. Raises InputError when it changed since the plan was made.
    """
    found = plan.found
    content = _digest_of(plan.source)
    stored = _Stored(plan.fingerprint, content, found.lines.packed(), found.grouping.packed())
    payload = _encode(stored)
    return _HEADER.pack(_MAGIC, _VERSION, _digest(_VERSION, payload)) + payload


def load_plan(data: bytes, source: Source) -> Plan:
    """The plan of `dump_plan`, with nothing checked but that the source is the same.

    `source` has the very lines of the plan, so that of a shard is a `RangeSource`; it is the
    plan's from then on. Raises PlanError for bytes that are damaged, are no plan, or are one of
    another version, and InputError when the source is not what it was.
    """
    try:
        stored = _decode(_payload(data, source.name))
        lines = LineIndex.unpacked(stored.lines)
        grouping = Grouping.unpacked(stored.groups, lines.first)
    except (msgspec.DecodeError, ValueError) as error:
        raise error if isinstance(error, PlanError) else _damaged(source.name) from error
    if source.size() != stored.lines.end or _digest_of(source) != stored.content:
        raise InputError(
            f"{source.name} is not what it was when its plan was made: put the old content back, "
            "or make the plan again"
        )
    return Plan(source, FirstPass(stored.fingerprint, lines, grouping))


def _payload(data: bytes, name: str) -> memoryview:
    if not data.startswith(_MAGIC):
        raise PlanError(f"what is stored as the plan of {name} is no plan: make it again")
    if len(data) < _HEADER.size:
        raise _damaged(name)
    _, version, digest = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise PlanError(
            f"the plan of {name} has version {version}, and this program reads version {_VERSION}: "
            "make it again, or use the version of batch-gateway that made it"
        )
    payload = memoryview(data)[_HEADER.size :]
    if _digest(version, payload) != digest:
        raise _damaged(name)
    return payload


def _damaged(name: str) -> PlanError:
    return PlanError(f"the plan of {name} is damaged: make it again")


def _digest(version: int, payload: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(_MAGIC + version.to_bytes(2, "little"), digest_size=_DIGEST_BYTES)
    digest.update(payload)
    return digest.digest()


def _digest_of(source: Source) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    # No plan was made of a line that is too long, nor is one used.
    with contextlib.suppress(LineTooLongError):
        for _, block in source.blocks():
            digest.update(block)
    return digest.digest()
