"""What an examination found, and how bad it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["Finding", "Status", "worst"]


class Status(StrEnum):
    """How bad a finding is. The values are stable and appear in `--json`."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, and nothing wrong."""
    WARNING = "warning"
    """Requests are answered, and something will be in the way."""
    FAILED = "failed"
    """No request is answered as long as this is so."""


_ORDER = list(Status)


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check.

    Attributes:
        check: what was looked at, in a word or two.
        said: what was found, as a sentence without its full stop.
        cure: what helps, likewise; "" where nothing has to.
        facts: the same for a program.
    """

    check: str
    status: Status
    said: str
    cure: str = ""
    facts: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])


def worst(findings: Iterable[Finding]) -> Status:
    """How bad all of it is together."""
    return max((one.status for one in findings), key=_ORDER.index, default=Status.OK)
