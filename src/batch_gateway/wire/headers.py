"""Response headers: kept as received, indexed only when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

__all__ = ["Headers"]

_NO_PAIRS = "Headers are made from pairs of bytes; write Headers.of for text"


class Headers(Mapping[str, str]):
    """An immutable mapping of header names to values whose look-up ignores case.

    Repeated headers are joined with ", " (RFC 9110 §5.2). Built from (name, value) pairs of
    bytes as they came off the wire, or from their lines; nothing is taken apart or decoded until
    the first look-up, because on the hot path most responses are never asked.
    """

    __slots__ = ("_index", "_lines", "_raw")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = ()) -> None:
        # Not `list | tuple`, which would be put together anew for each response.
        self._raw: Sequence[tuple[bytes, bytes]] | None = (
            raw if isinstance(raw, (list, tuple)) else _listed(raw)
        )
        self._lines = b""
        self._index: dict[str, str] | None = None

    @classmethod
    def of_lines(cls, lines: bytes) -> Headers:
        """From those of a head that is known to be well-formed, without the last line break."""
        headers = cls.__new__(cls)
        headers._lines, headers._raw, headers._index = lines, None, None
        return headers

    @classmethod
    def of(cls, pairs: Mapping[str, str] | Sequence[tuple[str, str]]) -> Headers:
        """From text, e.g. in tests."""
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        return cls([(n.encode("latin-1"), v.encode("latin-1")) for n, v in items])

    @property
    def raw(self) -> Sequence[tuple[bytes, bytes]]:
        """The pairs as received, in order, repeated names included."""
        if self._raw is None:
            split = (line.partition(b":") for line in self._lines.split(b"\r\n"))
            self._raw = [(name, value.lstrip()) for name, _, value in split]
        return self._raw

    def _indexed(self) -> dict[str, str]:
        if self._index is None:
            index: dict[str, str] = {}
            try:
                for name, value in self.raw:
                    key = name.decode("latin-1").lower()
                    text = value.decode("latin-1").strip()
                    index[key] = f"{index[key]}, {text}" if key in index else text
            except (AttributeError, TypeError, ValueError) as error:
                raise TypeError(_NO_PAIRS) from error
            self._index = index
        return self._index

    def first(self, name: bytes) -> bytes | None:
        """The value of the first of that name, in lower case, found without the index."""
        # The usual case first: this runs once an answer.
        if self._raw is None and name not in self._lines.lower():
            return None
        size = len(name)
        return next((v for n, v in self.raw if len(n) == size and n.lower() == name), None)

    def has(self, name: bytes) -> bool:
        """Whether there is one of that name, in lower case."""
        return self.first(name) is not None

    def value(self, name: str) -> str:
        """That of a header; empty without one. What `get` takes for it is an exception."""
        return self._indexed().get(name.lower(), "")

    def __getitem__(self, name: str) -> str:
        return self._indexed()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._indexed())

    def __len__(self) -> int:
        return len(self._indexed())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._indexed()

    def __repr__(self) -> str:
        return f"Headers({list(self._indexed())})"


def _listed(raw: object) -> list[tuple[bytes, bytes]]:
    if not isinstance(raw, Iterable) or isinstance(raw, Mapping | str | bytes):
        raise TypeError(_NO_PAIRS)
    return list(cast("Iterable[tuple[bytes, bytes]]", raw))
