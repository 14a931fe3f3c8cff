"""The first pass over a batch file: check every line, remember where it stands and its group."""

from __future__ import annotations

import hashlib
import io
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec

from batch_gateway.engine.foreign_formats import for_file, foreign_advice
from batch_gateway.engine.grouping import MAX_MODELS, Grouping, TooManyModelsError, prefix_key
from batch_gateway.engine.line_blocks import MAX_LINE_BYTES, LineTooLongError, is_utf8
from batch_gateway.engine.line_index import LineIndex
from batch_gateway.engine.problems import Fault, LineProblem
from batch_gateway.engine.source import Source, numbered_lines
from batch_gateway.engine.uniqueness import SeenIds, secret_numbers, stable_numbers
from batch_gateway.engine.validate import check_line, diagnose
from batch_gateway.errors import EmptyInputError, InputError

__all__ = ["FirstPass", "ProgressCallback", "first_pass"]

ProgressCallback = Callable[[int, int], None]
"""Told (bytes read, bytes in all) now and then."""

_BOM: Final = b"\xef\xbb\xbf"
_FINGERPRINT_DIGITS: Final = 16


class FirstPass(msgspec.Struct):
    """What the first pass found in a file without problems, or with some that are left out.

    Attributes:
        fingerprint: see `Plan`.
        lines: where they stand, those with problems too.
        grouping: which belong together; lines with problems are of the model "".
        faulty: the requests with problems, in order.
        paths: endpoints that were taken beside those of OpenAI's Batch API.
    """

    fingerprint: str
    lines: LineIndex
    grouping: Grouping
    faulty: Sequence[int] = ()
    paths: Collection[str] = ()


class _Problems:
    """The first few problems by line, and which lines have any."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Their numbers, eight bytes each: those that came in order, and those that came later.
        self._in_order, self._later = array("Q"), array("Q")
        self.found: list[LineProblem] = []

    def __len__(self) -> int:
        """How many lines have any."""
        return len(self._in_order) + len(self._later)

    @property
    def is_full(self) -> bool:
        return len(self.found) >= self.limit

    def add(self, line_number: int, faults: Iterable[Fault]) -> None:
        known = self._in_order
        place = bisect_left(known, line_number)
        if place == len(known):
            known.append(line_number)
        elif known[place] != line_number:
            self._later.append(line_number)
        # Else it is malformed and has the custom_id of another.
        self.found.extend(LineProblem.on(line_number, fault) for fault in faults)

    def lines(self) -> list[int]:
        """All of them in order."""
        return sorted([*self._in_order, *self._later])

    def error(self, name: str) -> InputError:
        shown = sorted(self.found, key=lambda problem: problem.line)[: self.limit]
        texts: list[str] = [*shown]
        count = len(self)
        more = count - len({problem.line for problem in shown})
        if more > 0:
            texts.append(f"and {more:,} more lines with problems")
        lines = "1 line" if count == 1 else f"{count:,} lines"
        return InputError(f"{name} has problems on {lines}", texts)


def first_pass(
    source: Source,
    max_problems: int,
    on_progress: ProgressCallback | None,
    endpoint: str | None = None,
    *,
    paths: Collection[str] = (),
    skip: bool = False,
) -> FirstPass:
    """Check all of `source`. Raises InputError, with the first `max_problems` problems in it.

    `skip` keeps lines with problems apart instead; other arguments see `make_plan`.
    """
    name, size = source.name, source.size()
    scanner = _Scanner(name, max_problems, endpoint, paths, skip)
    digest = hashlib.sha256()
    end = 0
    try:
        for offset, block in source.blocks():
            digest.update(block)
            scanner.take_block(offset, block)
            end = offset + len(block)
            if on_progress is not None:
                on_progress(end, size)
    except LineTooLongError as error:
        number = scanner.next_line
        limit = MAX_LINE_BYTES // 1024**2
        problem = LineProblem.on(number, Fault(f"is longer than {limit} MiB"))
        raise InputError(f"{name} cannot be read as JSON lines", [problem]) from error
    except TooManyModelsError as error:
        raise InputError(f"{name} names more than {MAX_MODELS:,} different models") from error
    scanner.lines.finish(end)
    _add_repeated_ids(source, scanner.ids, scanner.problems)
    problems = scanner.problems
    if problems and (not skip or len(problems) == len(scanner.lines)):
        raise problems.error(name)
    if not len(scanner.lines):
        nothing = "holds only blank lines" if end > len(_BOM) else "is empty"
        raise EmptyInputError(f"{name} {nothing}")
    scanner.grouping.finish()
    fingerprint = digest.hexdigest()[:_FINGERPRINT_DIGITS]
    faulty = [scanner.lines.index_of(number) for number in problems.lines()]
    return FirstPass(fingerprint, scanner.lines, scanner.grouping, faulty, paths)


class _Scanner:
    """Takes the file block by block."""

    def __init__(
        self,
        name: str,
        max_problems: int,
        endpoint: str | None,
        paths: Collection[str],
        skip: bool,
    ) -> None:
        self.name = name
        self.paths = paths
        self.skip = skip
        self.endpoint = endpoint
        self.problems = _Problems(max_problems)
        self.lines = LineIndex()
        self.grouping = Grouping()
        self.ids = SeenIds(stable_numbers)
        self.next_line = 1
        self._add_group = self.grouping.adder()

    def take_block(self, offset: int, block: bytes) -> None:
        if offset == 0:
            if (advice := foreign_advice(block.removeprefix(_BOM))) is not None:
                raise InputError(f"{self.name} {for_file(advice, self.name)}")
            if block.startswith(_BOM):
                offset, block = len(_BOM), block[len(_BOM) :]
        # Checked a block at a time: the decoder does not look into strings that it skips.
        all_utf8 = is_utf8(block)
        add_group, endpoint, paths = self._add_group, self.endpoint, self.paths
        offsets: list[int] = []
        custom_ids: list[str] = []
        number = self.next_line - 1
        # Each with its line break; finding them so costs a tenth of `split`.
        for number, line in enumerate(io.BytesIO(block), self.next_line):
            checked = check_line(line, paths) if all_utf8 or is_utf8(line) else None
            if checked is None:
                if self._take_odd_line(number, line, len(self.lines) + len(offsets)):
                    add_group("", 0)
                    offsets.append(offset)
            else:
                custom_ids.append(checked.custom_id)
                add_group(checked.body.model, prefix_key(checked.body))
                offsets.append(offset)
                if endpoint is not None and checked.url != endpoint:
                    self._take_other_endpoint(number, checked.url, endpoint)
            offset += len(line)
        self.next_line = number + 1
        self.lines.extend(offsets)
        self.ids.extend(custom_ids)

    def _take_other_endpoint(self, number: int, url: str, endpoint: str) -> None:
        words = f"url {url} is not the endpoint of the batch, {endpoint}"
        fault = Fault(words, "url_mismatch", "url")
        self.problems.add(number, [] if self.problems.is_full else [fault])

    def _take_odd_line(self, number: int, line: bytes, next_index: int) -> bool:
        """Whether it is a request, be it one with problems, and no blank line."""
        if line.isspace():
            self.lines.add_blank(next_index)
            return False
        if self.problems.is_full and not self.skip:
            self.problems.add(number, [])
            return True
        diagnosis = diagnose(line.removesuffix(b"\n"), self.paths)
        self.problems.add(number, [] if self.problems.is_full else diagnosis.problems)
        if diagnosis.custom_id is not None:
            self.ids.extend((diagnosis.custom_id,))
        return True


class _IdOnly(msgspec.Struct):
    custom_id: Annotated[str, msgspec.Meta(min_length=1)]


_decode_id = msgspec.json.Decoder(_IdOnly).decode


def _add_repeated_ids(source: Source, ids: SeenIds, problems: _Problems) -> None:
    """Read the input again, only when an id seems to be repeated, to say whether and where.

    First with numbers that nobody can prepare ids for: what then seems to be repeated is, and
    ids that only look alike cost no memory.
    """
    if ids.suspects() is None:
        return
    again = SeenIds(secret_numbers)
    again.extend(custom_id for _, custom_id in _read_ids(source))
    is_repeated = again.suspects()
    if is_repeated is None:
        return
    first_use: dict[str, int] = {}
    budget = problems.limit
    for number, custom_id in _read_ids(source):
        if not is_repeated(custom_id):
            continue
        earlier = first_use.setdefault(custom_id, number)
        if earlier == number:
            continue
        faults: list[Fault] = []
        if budget > 0:
            budget -= 1
            text = f'custom_id "{custom_id[:80]}" was already used on line {earlier}'
            faults = [Fault(text, "duplicate_custom_id", "custom_id")]
        problems.add(number, faults)


def _read_ids(source: Source) -> Iterator[tuple[int, str]]:
    for number, _, line in numbered_lines(source):
        try:
            yield number, _decode_id(line).custom_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
