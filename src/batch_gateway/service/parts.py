"""Parts: objects with result lines of one role, and what is counted of them."""

from __future__ import annotations

from typing import Final
from zlib import crc32

import msgspec

from batch_gateway.engine.figures import Additive
from batch_gateway.engine.result_line import Role
from batch_gateway.wire.usage import Usage

__all__ = [
    "BATCHES",
    "Part",
    "Tally",
    "batch_folder",
    "ending",
    "parts_folder",
    "plan_name",
    "role_of_part",
]

BATCHES: Final = "batches"
"""Below what each batch has a folder of its own in the store."""

_ENDINGS: Final = {Role.SUCCESS: "output", Role.FAILURE: "errors"}


class Tally(Additive):
    """What is counted of result lines; of many, added up.

    Attributes:
        completed, failed: lines.
        usage: tokens of the answers.
        by_model: the lines by model, where there are several.
    """

    completed: int = 0
    failed: int = 0
    usage: Usage = Usage()
    by_model: dict[str, int] = msgspec.field(default_factory=dict[str, int])

    @classmethod
    def of(cls, role: Role, lines: int, usage: Usage, by_model: dict[str, int]) -> Tally:
        """Of so many lines of one role."""
        good = role is Role.SUCCESS
        return cls(lines if good else 0, 0 if good else lines, usage, by_model)

    @property
    def lines(self) -> int:
        return self.completed + self.failed


class Part(msgspec.Struct, frozen=True):
    """An object with result lines of one role: its name in the store, and what is in it.

    `checksum` is the CRC-32 of its bytes, None of a part that an earlier version registered.
    """

    name: str
    bytes: int
    tally: Tally
    checksum: int | None = None

    @classmethod
    def of(cls, name: str, data: bytes, tally: Tally) -> Part:
        return cls(name, len(data), tally, crc32(data))

    def is_whole(self, size: int, checksum: int) -> bool:
        """Whether so many bytes with this CRC-32 are what was stored."""
        return size == self.bytes and self.checksum in {checksum, None}


def batch_folder(batch_id: str) -> str:
    """Below what everything of a batch is in the store that goes when it ends."""
    return f"{BATCHES}/{batch_id}"


def parts_folder(batch_id: str, shard: int) -> str:
    """Below what the parts of a shard are in the store."""
    return f"{batch_folder(batch_id)}/{shard:06}"


def plan_name(batch_id: str, shard: int) -> str:
    """What the plan of a shard is called in the store."""
    return f"{batch_folder(batch_id)}/plans/{shard:06}"


def ending(role: Role) -> str:
    """How the name of a part with lines of that role ends."""
    return f".{_ENDINGS[role]}"


def role_of_part(name: str) -> Role:
    """What the lines of a part are."""
    return Role.SUCCESS if name.endswith(ending(Role.SUCCESS)) else Role.FAILURE
