"""Reading parts back: their lines, if they are what was stored, and what is counted of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from batch_gateway.engine.plan import Plan
from batch_gateway.engine.result_line import Role
from batch_gateway.engine.result_reader import ResultReader
from batch_gateway.errors import (
    JournalError,
    NotStoredError,
    StorageError,
    StorageUnavailableError,
)
from batch_gateway.service.parts import Part, Tally, role_of_part
from batch_gateway.storage.protocol import Storage
from batch_gateway.wire.usage import Usage, parse_usage

__all__ = ["PartReader", "StoredLine", "part_of"]

_TRIES: Final = 3


class StoredLine(NamedTuple):
    """A result line of a part, and the request that it is of."""

    request: int
    ok: bool
    line: bytes


class PartReader:
    """Reads the parts of the shard that `plan` is of."""

    def __init__(self, storage: Storage, plan: Plan) -> None:
        self._storage, self._plan = storage, plan

    async def lines(self, part: Part) -> Sequence[StoredLine] | None:
        """The lines of a registered part; None when it is lost or not what was stored.

        Raises JournalError when what was stored are not results of this shard, and StorageError
        when the store fails as a whole.
        """
        data = await self.bytes_of([part])
        if data is None:
            return None
        lines = self._parsed(part.name, data)
        if lines is None and part.checksum is not None:
            raise JournalError(f"{part.name} holds what are no results of this input")
        return lines if lines is not None and len(lines) == part.tally.lines else None

    async def lines_of_unregistered(self, name: str) -> Sequence[StoredLine] | None:
        """The lines of a part that nobody counted; None when it is lost or damaged."""
        data = await self._read(name)
        return None if data is None else self._parsed(name, data)

    async def bytes_of(self, parts: Sequence[Part]) -> bytes | None:
        """What is in all of these parts; None when one is not what was stored."""
        # At once, since from a bucket each takes its time.
        found = await asyncio.gather(*(self._read(part.name) for part in parts))
        for part, data in zip(parts, found, strict=True):
            if data is None or not part.is_whole(len(data), crc32(data)):
                return None
        return b"".join(data for data in found if data is not None)

    async def _read(self, name: str) -> bytes | None:
        """None when it is gone, or cannot be read from a store that works otherwise."""
        for _ in range(_TRIES):
            try:
                return await self._storage.read(name)
            except NotStoredError:
                return None
            except StorageUnavailableError:
                raise
            except StorageError:
                await self._see_that_the_store_works(name)
        return None

    async def _see_that_the_store_works(self, name: str) -> None:
        probe = f"{name}.probe"
        await self._storage.put(probe, b"")
        await self._storage.delete(probe)

    def _parsed(self, name: str, data: bytes) -> Sequence[StoredLine] | None:
        role = role_of_part(name)
        reader = ResultReader(name, self._plan, role)
        found: list[StoredLine] = []
        *lines, rest = data.split(b"\n")
        try:
            for line in lines:
                index = reader.index_of(line, len(found) + 1)
                if index is None:
                    return None
                found.append(StoredLine(index, role is Role.SUCCESS, line + b"\n"))
        except JournalError:
            return None
        return None if rest else found


def part_of(name: str, lines: Sequence[StoredLine], by_model: dict[str, int]) -> Part:
    """The part that these are all lines of, with what is counted of them."""
    usage = sum((_usage_of_line(line.line) for line in lines if line.ok), Usage())
    data = b"".join(line.line for line in lines)
    return Part.of(name, data, Tally.of(role_of_part(name), len(lines), usage, by_model))


class _Response(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    response: _Response | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


def _usage_of_line(line: bytes) -> Usage:
    response = _decode_line(line).response
    return Usage() if response is None else parse_usage(bytes(response.body)) or Usage()
