"""Which lines belong together: the same model, and the same beginning of the prompt.

A server keeps the keys and values of a prompt's beginning (prefix caching), so lines that share
it are cheaper when they arrive together.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice
from zlib import crc32

import msgspec

from batch_gateway.engine.packed_arrays import pack, unpack
from batch_gateway.engine.validate import CheckedBody

__all__ = ["MAX_MODELS", "Grouping", "PackedGroups", "TooManyModelsError", "prefix_key"]

MAX_MODELS = 32_768
# Past this many, further prefixes of a model share its first group: the look-up table stays
# small, and so many prefixes have little to gain from each other's company.
_MAX_PREFIX_GROUPS = 16_384
# Of a prompt without a system message only the beginning can be shared; 256 bytes are some 64
# tokens, four blocks of vLLM's prefix cache.
_LEADING_BYTES = 256


class TooManyModelsError(Exception):
    """More than `MAX_MODELS` different models in one file."""


def prefix_key(body: CheckedBody) -> int:
    """A number that is equal for equal prompt beginnings, in every process and on every machine.

    The first system or developer message of a chat, the `instructions` of a response, else the
    leading bytes of the prompt. 0 when the body has none of them. Two beginnings with one number
    are one group, which at most costs a cache.
    """
    chat = body.messages
    if chat is not None and chat.first is not None:
        first = chat.first
        if first.role in ("system", "developer"):
            return crc32(first.content)
        return crc32(memoryview(first.content)[:_LEADING_BYTES])
    if body.instructions:
        return crc32(body.instructions)
    return crc32(memoryview(body.prompt or body.input)[:_LEADING_BYTES])


class PackedGroups(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A grouping to be stored."""

    models: list[str]
    model_of_group: bytes
    group_of: bytes


class Grouping:
    """The group of each line: two bytes a line, and a small table of groups.

    Groups are numbered by first appearance. `first` is the number of the first line's request.
    """

    def __init__(self, first: int = 0) -> None:
        self._first = first
        # Empty once it can be told from what else is known.
        self._group_of = array("H")
        self._model_of_group = array("H")
        self._models: list[str] = []
        self._known: dict[str, dict[int, int]] = {}
        self._lines_in_group: list[int] = []
        self._sorted: array[int] | None = None

    def adder(self) -> Callable[[str, int], None]:
        """A function of (model, prefix key) that gives the next line its group."""
        known, append = self._known, self._group_of.append

        def add(model: str, key: int) -> None:
            try:
                append(known[model][key])
            except KeyError:
                append(self._new_group(model, key))

        return add

    def _new_group(self, model: str, key: int) -> int:
        groups = self._known.get(model)
        if groups is None:
            if len(self._models) == MAX_MODELS:
                raise TooManyModelsError
            groups = self._known[model] = {}
            self._models.append(model)
            rank = len(self._models) - 1
        else:
            first = next(iter(groups.values()))
            if len(self._model_of_group) - len(self._models) >= _MAX_PREFIX_GROUPS:
                return first
            rank = self._model_of_group[first]
        groups[key] = len(self._model_of_group)
        self._model_of_group.append(rank)
        return groups[key]

    def finish(self) -> None:
        """No more lines: count them, and let go of the look-up table."""
        self._known = {}
        counted = Counter(self._group_of)
        self._lines_in_group = [counted[group] for group in range(len(self._model_of_group))]
        if len(self._lines_in_group) == 1:
            self._group_of = array("H")

    def models(self) -> dict[str, int]:
        """Each model's number of lines, in order of first appearance."""
        counts = dict.fromkeys(self._models, 0)
        for group, lines in enumerate(self._lines_in_group):
            counts[self._models[self._model_of_group[group]]] += lines
        return counts

    def model_of(self, index: int) -> str:
        if len(self._models) == 1:
            return self._models[0]
        return self._models[self._model_of_group[self._group_of[index - self._first]]]

    def in_file_order(self, models: Collection[str] | None = None) -> Iterator[int]:
        """Indexes of the lines for `models` (None: all), as they stand in the file."""
        if models is None or len(self._models) <= 1:
            lines = sum(self._lines_in_group) if self._wanted(models) else 0
            return iter(range(self._first, self._first + lines))
        wanted = set(self._wanted(models))
        indexes = enumerate(self._group_of, self._first)
        return (index for index, group in indexes if group in wanted)

    def in_prefix_order(self, models: Collection[str] | None = None) -> Iterator[int]:
        """Indexes of the lines for `models` (None: all), group by group.

        Models, and groups within a model, come in order of first appearance; a group's lines in
        the order of the file.
        """
        if len(self._model_of_group) <= 1:
            return self.in_file_order(models)
        if self._sorted is None:
            self._sorted = self._sort()
            if len(self._models) == 1:
                # The groups have served their purpose; what is left to ask for is the model.
                self._group_of = array("H")
        starts, lengths = self._starts(), self._lines_in_group
        # Nothing is copied, and no generator resumed for each line.
        lines = memoryview(self._sorted)
        return chain.from_iterable(
            lines[starts[group] : starts[group] + lengths[group]] for group in self._wanted(models)
        )

    def _wanted(self, models: Collection[str] | None) -> list[int]:
        """The groups of `models` in the order they are run."""
        ranks = enumerate(self._models)
        chosen = {rank for rank, name in ranks if models is None or name in models}
        groups = (g for g, rank in enumerate(self._model_of_group) if rank in chosen)
        return sorted(groups, key=self._model_of_group.__getitem__)

    def _starts(self) -> list[int]:
        starts: list[int] = []
        total = 0
        for lines in self._lines_in_group:
            starts.append(total)
            total += lines
        return starts

    def _sort(self) -> array[int]:
        """All indexes ordered by group: a counting sort, four bytes a line."""
        result = array("I", bytes(4 * len(self._group_of)))
        place = self._starts()
        for index, group in enumerate(self._group_of, self._first):
            result[place[group]] = index
            place[group] += 1
        return result

    def _groups(self) -> array[int]:
        """The group of each line, be they told apart or not."""
        if self._group_of:
            return self._group_of
        groups = array("H", bytes(2 * sum(self._lines_in_group)))
        lines = iter(self._sorted or ())
        for group, count in enumerate(self._lines_in_group if self._sorted else ()):
            for index in islice(lines, count):
                groups[index - self._first] = group
        return groups

    def part(self, first: int, end: int) -> Grouping:
        """That of the requests from `first` to `end`."""
        part = Grouping(first)
        add = part.adder()
        for group in self._groups()[first - self._first : end - self._first]:
            add(self._models[self._model_of_group[group]], group)
        part.finish()
        return part

    def packed(self) -> PackedGroups:
        return PackedGroups(self._models, pack(self._model_of_group), pack(self._groups()))

    @classmethod
    def unpacked(cls, packed: PackedGroups, first: int) -> Grouping:
        grouping = cls(first)
        grouping._models = packed.models
        grouping._model_of_group = unpack("H", packed.model_of_group)
        grouping._group_of = unpack("H", packed.group_of)
        grouping.finish()
        return grouping
