"""The plan of a batch: every line checked, none of it in memory, each readable by its index."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from typing import Literal

import msgspec

from batch_gateway.engine.first_pass import FirstPass, ProgressCallback, first_pass
from batch_gateway.engine.shard import SHARD_BYTES, SHARD_LINES, Shard, split
from batch_gateway.engine.source import FileSource, RangeSource, Source, changed
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
    """

    def __init__(self, source: Source, found: FirstPass) -> None:
        self.source = source
        self.found = found
        self.name = source.name
        self.size_bytes = source.size()
        self.fingerprint = found.fingerprint
        self.total = len(found.lines)
        self.requests = range(found.lines.first, found.lines.first + self.total)
        self.models = found.grouping.models()
        # Asked once a line, and so without a call in between.
        self.size_of = found.lines.size
        self.model_of = found.grouping.model_of

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
        return line_id(self.fingerprint, index), line

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
        in_order = grouping.in_prefix_order if order == "prefix" else grouping.in_file_order
        indexes = in_order(models)
        return indexes if skip is None else (index for index in indexes if not skip(index))

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
) -> Plan:
    """The first pass: check every line of a batch and index it.

    `source` is the path of a file, or a source, which is the plan's from then on. `endpoint` is
    the `url` that every line must have; without it any that can be batched will do. Raises
    InputError when there is no such file, or with one entry in `problems` for each problem, the
    first `max_problems` of them.
    """
    lines = FileSource.open(source) if isinstance(source, str | os.PathLike) else source
    try:
        return Plan(lines, first_pass(lines, max_problems, on_progress, endpoint))
    except BaseException:
        lines.close()
        raise
