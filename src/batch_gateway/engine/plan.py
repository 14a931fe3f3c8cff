"""The plan of a batch: every line checked, none of it in memory, each readable by its index."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal
from zlib import crc32

import msgspec

from batch_gateway.engine.first_pass import FirstPass, ProgressCallback, first_pass
from batch_gateway.engine.line_blocks import is_utf8
from batch_gateway.engine.problems import Fault
from batch_gateway.engine.shard import SHARD_BYTES, SHARD_LINES, Shard, split
from batch_gateway.engine.source import FileSource, RangeSource, Source, changed
from batch_gateway.engine.validate import check_line, diagnose
from batch_gateway.wire.lines import BatchLine, decode_batch_line, line_id

__all__ = ["Order", "Plan", "make_plan"]

Order = Literal["prefix", "file"]
"""How lines are sent: grouped by model and prompt beginning, or as they stand in the file."""


class Plan:
    """A checked batch. Close it, and its source with it, or use it as a context manager.

    Some ten bytes a line; lines are read from the source when they are wanted.

    Attributes:
        source: where the lines are.
        name: what to call it in messages.
        found: what the first pass found in it.
        fingerprint: 16 hexadecimal digits of the SHA-256 of the whole file.
        requests: their numbers in the whole file, from 0; a plan of a part begins later.
        total: how many there are.
        size_bytes: of the source.
        models: number of requests for each model, in order of first appearance.
        faulty: the numbers of requests that cannot be sent, in order; see `problems`.
        made_with: what made its lines of other data, by name; see `make_plan`.
    """

    def __init__(
        self, source: Source, found: FirstPass, made_with: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.source = source
        self.found = found
        self.made_with = made_with
        self.name = source.name
        self.size_bytes = source.size()
        self.fingerprint = found.fingerprint + "".join(made_with.values())
        self.total = len(found.lines)
        self.requests = range(found.lines.first, found.lines.first + self.total)
        self.models = found.grouping.models()
        self.faulty = found.faulty
        for index in self.faulty:
            self._forget(found.grouping.model_of(index))
        # Asked once a line, and so without a call in between.
        self.size_of = found.lines.size
        self.model_of = found.grouping.model_of

    @property
    def origin(self) -> Source | None:
        """What its lines were made of; None where they stand as they are in the source."""
        return self.source.origin if isinstance(self.source, FileSource) else None

    def _forget(self, model: str) -> None:
        self.models[model] -= 1
        if not self.models[model]:
            del self.models[model]

    def read(self, index: int) -> bytes:
        """The line of request `index`, without its line break.

        Raises InputError when the input changed since the plan was made, or cannot be read.
        """
        return self.source.read(*self.found.lines.span(index)).strip()

    def request(self, index: int) -> tuple[str, BatchLine]:
        """The id of the result of request `index`, and its line taken apart.

        Raises InputError as `read` does.
        """
        text = self.source.read(*self.found.lines.span(index))
        try:
            line = decode_batch_line(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise changed(self.name) from error
        return line_id(self.fingerprint, index, crc32(text.strip())), line

    def problems(self, index: int) -> tuple[str, str, Sequence[Fault]]:
        """The id of the result of a faulty request, its custom_id if it has one, and its faults.

        Raises InputError as `read` does.
        """
        text = self.read(index)
        result_id = line_id(self.fingerprint, index, crc32(text))
        paths = self.found.paths
        if is_utf8(text) and (checked := check_line(text, paths)) is not None:
            again = "its custom_id was already used on an earlier line"
            return result_id, checked.custom_id, [Fault(again, "duplicate_custom_id", "custom_id")]
        diagnosis = diagnose(text, paths)
        return result_id, diagnosis.custom_id or "", diagnosis.problems

    def line_number(self, index: int) -> int:
        """The number of the request's line in the file, from 1, blank lines counted."""
        return self.found.lines.line_number(index)

    def shards(
        self, batch: str, *, max_bytes: int = SHARD_BYTES, max_lines: int = SHARD_LINES
    ) -> Iterator[Shard]:
        """The plan's source cut into parts of whole lines, to be run by themselves; see `part`."""
        return split(self.found.lines, batch, max_bytes, max_lines)

    def part(self, shard: Shard) -> Plan:
        """The plan of a shard, with the numbers and ids that its requests have in the whole.

        Closing it leaves the source of the whole open.
        """
        first, end = shard.first_index, shard.first_index + shard.requests
        lines, grouping = self.found.lines.part(first, end), self.found.grouping.part(first, end)
        source = RangeSource(self.source, shard.start, shard.end)
        return Plan(source, FirstPass(self.fingerprint, lines, grouping))

    def order(
        self,
        order: Order = "prefix",
        skip: Callable[[int], bool] | None = None,
        models: Collection[str] | None = None,
    ) -> Iterator[int]:
        """Indexes in the order they should be sent, without those that `skip` says are done.

        `models` limits them to those models. "prefix" goes model by model and, within a model,
        by the beginning of the prompt, in order of first appearance; "file" as in the file.
        """
        grouping = self.found.grouping
        if self.faulty:
            models = self.models if models is None else models
            skip = self._or_faulty(skip)
        in_order = grouping.in_prefix_order if order == "prefix" else grouping.in_file_order
        indexes = in_order(models)
        return indexes if skip is None else (index for index in indexes if not skip(index))

    def _or_faulty(self, skip: Callable[[int], bool] | None) -> Callable[[int], bool]:
        faulty = frozenset(self.faulty)
        return lambda index: index in faulty or (skip is not None and skip(index))

    def close(self) -> None:
        """Close the source. A second call does nothing."""
        self.source.close()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def make_plan(
    source: str | os.PathLike[str] | Source,
    *,
    max_problems: int = 20,
    on_progress: ProgressCallback | None = None,
    endpoint: str | None = None,
    paths: Collection[str] = (),
    skip_bad_lines: bool = False,
    made_with: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The first pass: check every line of a batch and index it.

    `source` is the path of a file, or a source, which is the plan's from then on. `endpoint` is
    the `url` that every line must have; without it any that can be batched will do, and those of
    `paths`. `skip_bad_lines` makes the plan of a file with problems, as long as some line has
    none. Of lines that were made of other data `made_with` tells how, in four hexadecimal digits
    for each thing that may be changed, so that a result says what it was made with. Raises
    InputError when there is no such file, or with one entry in `problems` for each problem, the
    first `max_problems` of them.
    """
    lines = FileSource.open(source) if isinstance(source, str | os.PathLike) else source
    try:
        found = first_pass(
            lines, max_problems, on_progress, endpoint, paths=paths, skip=skip_bad_lines
        )
        return Plan(lines, found, made_with)
    except BaseException:
        lines.close()
        raise
