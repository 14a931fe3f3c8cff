"""A JSON object whose fields are taken one by one: what nobody took is never lost in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from batch_gateway.errors import BatchGatewayError

__all__ = ["CannotSayError", "Fields", "Losses"]

_PLACE = re.compile(r"\[\d+\]")


class CannotSayError(BatchGatewayError):
    """Something that the other form has no words for; goes on from "line 7: "."""


class Losses:
    """What may be left out, and how often it was.

    `allowed` are fields as messages name them, `params.top_k`; places in lists are `[]`.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._allowed = {_PLACE.sub("[]", name) for name in allowed}

    def lose(self, path: str, why: str = "") -> None:
        """Raises CannotSayError unless it may be left out."""
        name = _PLACE.sub("[]", path)
        if name not in self._allowed:
            reason = why or "has no place in the other form"
            raise CannotSayError(f"{path} {reason}; --drop {name!r} leaves it out")
        self.counts[name] += 1


class Fields:
    """An object, and where it stands."""

    def __init__(self, value: Any, path: str, losses: Losses) -> None:
        if not isinstance(value, dict):
            raise CannotSayError(f"{path or 'the line'} is no JSON object")
        self._left = dict(cast("Mapping[str, Any]", value))
        self._path = path
        self.losses = losses

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def take(self, name: str, otherwise: Any = None) -> Any:
        """The field's value, which then counts as said; `otherwise` where it is null or missing."""
        value = self._left.pop(name, None)
        return otherwise if value is None else value

    def text(self, name: str) -> str:
        """A field that must be text. Raises CannotSayError."""
        value = self.take(name)
        if not isinstance(value, str):
            raise CannotSayError(f"{self.path(name)} is missing, or is no text")
        return value

    def inner(self, name: str) -> Fields:
        """The object in a field, which must be there."""
        return Fields(self.take(name), self.path(name), self.losses)

    def items(self, name: str) -> Iterator[Fields]:
        """The objects in a list; none where it is not there."""
        return self._objects(name, self.take(name, []))

    def text_or_items(self, name: str) -> str | Iterator[Fields] | None:
        """The text in a field, or the objects in its list; None where it is not there."""
        value = self.take(name)
        return value if value is None or isinstance(value, str) else self._objects(name, value)

    def _objects(self, name: str, value: object) -> Iterator[Fields]:
        if not isinstance(value, list):
            raise CannotSayError(f"{self.path(name)} is no list")
        for place, item in enumerate(cast("list[Any]", value)):
            yield Fields(item, f"{self.path(name)}[{place}]", self.losses)

    def moved(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Fields that the other form has under other names, or under the same."""
        found = ((other, self.take(name)) for name, other in names.items())
        return {other: value for other, value in found if value is not None}

    def lose(self, name: str, why: str = "") -> None:
        """A value that was taken and cannot be said. Raises CannotSayError unless it may go."""
        self.losses.lose(self.path(name), why)

    def end(self, *, harmless: Collection[str] = ()) -> None:
        """All has been taken that can be said. Raises CannotSayError for what is left."""
        for name, value in self._left.items():
            if value is not None and name not in harmless:
                self.lose(name)

    def refusal(self) -> str:
        """The words of an error body, whichever form it has; "" without any."""
        error = self.take("error")
        said = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
        return "" if said is None else str(said)

    def rest(self) -> dict[str, Any]:
        """All that was not taken, which is said as it is."""
        left, self._left = self._left, {}
        return left
