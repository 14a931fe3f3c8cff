"""How many lines of a run may fail before it stops: a number, or a share of what is to be sent."""

from __future__ import annotations

import re

import msgspec

from batch_gateway.errors import ConfigError

__all__ = ["FailureLimit"]

_TEXT = re.compile(r"([0-9]{1,18})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


class FailureLimit(msgspec.Struct, frozen=True):
    """At most so many lines may fail; one more stops the run.

    Attributes:
        count: lines.
        share: of the lines that are to be sent, from 0 to 1; None where `count` holds.
    """

    count: int = 0
    share: float | None = None

    @classmethod
    def parse(cls, text: str, field: str = "max_failures") -> FailureLimit:
        """ "100" or "2.5%". Raises ConfigError."""
        found = _TEXT.fullmatch(text.strip())
        if found is None or (found.group(2) is not None and float(found.group(2)) > 100):
            raise ConfigError(field, f"{text!r} is not a number of lines, nor a share such as 5%")
        if found.group(1) is not None:
            return cls(int(found.group(1)))
        return cls(share=float(found.group(2)) / 100)

    def of(self, lines: int) -> float:
        """How many of `lines` may fail."""
        return self.count if self.share is None else int(lines * self.share)

    @property
    def is_everything(self) -> bool:
        """Every line may fail, so that none needs to be held for what it might say."""
        return self.share == 1

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{self.share * 100:g}%"
