"""Parts: objects with result lines of one role, and what is counted of them."""

from __future__ import annotations

from typing import Final

import msgspec

from batch_gateway.engine.figures import Additive
from batch_gateway.engine.result_line import Role
from batch_gateway.wire.usage import Usage

__all__ = ["Part", "Tally", "ending", "role_of_part"]

_ENDINGS: Final = {Role.SUCCESS: "output", Role.FAILURE: "errors"}


class Tally(Additive):
    """What is counted of result lines; of many, added up.

    Attributes:
        completed, failed: lines.
        usage: tokens of the answers.
    """

    completed: int = 0
    failed: int = 0
    usage: Usage = Usage()


class Part(msgspec.Struct, frozen=True):
    """An object with result lines of one role: its name in the store, and what is in it."""

    name: str
    bytes: int
    tally: Tally


def ending(role: Role) -> str:
    """How the name of a part with lines of that role ends."""
    return f".{_ENDINGS[role]}"


def role_of_part(name: str) -> Role:
    """What the lines of a part are."""
    return Role.SUCCESS if name.endswith(ending(Role.SUCCESS)) else Role.FAILURE
