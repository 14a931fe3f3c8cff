"""Reading which requests of a batch have a result, from the result lines themselves."""

from __future__ import annotations

import os

import msgspec

from batch_gateway.batch.bitmap import Bitmap
from batch_gateway.batch.line_blocks import LineTooLongError, iter_blocks
from batch_gateway.batch.result_file import ResultFile
from batch_gateway.errors import JournalError
from batch_gateway.wire.lines import LINE_ID_PREFIX, parse_line_id

__all__ = ["ResultReader", "Scan", "looks_like_results", "scan_results"]


class _Result(msgspec.Struct):
    id: str
    custom_id: str


_decode = msgspec.json.Decoder(_Result).decode
_LOOK_BYTES = 64 * 1024
_START = b'{"id":"' + LINE_ID_PREFIX.encode()


class Scan(msgspec.Struct):
    """What a result file holds.

    Attributes:
        seen: indexes with at least one line.
        repeated: some index has several lines.
        damaged: some lines cannot be trusted (a power cut left zeros) and count for nothing.
        in_order: the lines stand in input order.
        last: index of the last line, -1 without any.
    """

    seen: Bitmap
    repeated: bool = False
    damaged: bool = False
    in_order: bool = True
    last: int = -1

    def take(self, index: int) -> None:
        """One more line, for the request `index`."""
        if not self.seen.add(index):
            self.repeated = True
        if index <= self.last:
            self.in_order = False
        self.last = index


class ResultReader:
    """Tells the index of each result line of one input file."""

    def __init__(self, name: str, input_name: str, fingerprint: str, total: int) -> None:
        self._name = name
        self._input_name = input_name
        self._fingerprint = fingerprint
        self._total = total
        self._expected = _START + f"{fingerprint}_".encode()

    def index_of(self, line: bytes, line_number: int) -> int | None:
        """The request a line belongs to; None for a damaged or blank line.

        Only the id is looked at, because results may be many gigabytes. Raises JournalError for
        a line of another origin.
        """
        start = len(self._expected)
        if line.startswith(self._expected) and line.endswith(b"}"):
            digits = line[start : line.find(b'"', start, start + 20)]
            if digits.isdigit():
                return self._checked(int(digits), line_number)
        return self._index_of_odd(line, line_number)

    def _index_of_odd(self, line: bytes, line_number: int) -> int | None:
        if b"\0" in line or line.isspace() or not line:
            return None
        try:
            parsed = parse_line_id(_decode(line).id)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if line.startswith(self._expected):
                return None
            parsed = None
        if parsed is None:
            raise JournalError(
                f"{self._name}: line {line_number} is not a result of this program, so the file "
                "is left alone; choose another output"
            )
        fingerprint, index = parsed
        if fingerprint != self._fingerprint:
            raise self.other_input()
        return self._checked(index, line_number)

    def _checked(self, index: int, line_number: int) -> int:
        if index < self._total:
            return index
        raise JournalError(
            f"{self._name}: line {line_number} is for request {index + 1:,}, and "
            f"{self._input_name} has only {self._total:,}; use --fresh to start over"
        )

    def other_input(self) -> JournalError:
        return JournalError(
            f"{self._name}: holds results of another input than {self._input_name} as it is now. "
            "Put the old input back to go on, choose another output, or use --fresh to start over"
        )

    def is_ours_cut_short(self, tail: bytes) -> bool:
        """Whether a last line without its line break can be the beginning of one of ours."""
        # A power cut may leave zeros where the rest of the line should be.
        written = tail.partition(b"\0")[0]
        is_ours = written.startswith(self._expected[: len(written)])
        if written.startswith(_START) and not is_ours:
            raise self.other_input()
        return is_ours


def scan_results(file: ResultFile, reader: ResultReader, total: int) -> Scan:
    """Read the whole file; a torn last line is cut off, or ended when only its break is missing.

    Nothing is changed before every whole line is known to be ours. Raises JournalError, OSError.
    """
    scan = Scan(Bitmap(total))
    number = 0
    try:
        for _, block in iter_blocks(file.fd):
            if not block.endswith(b"\n"):
                number += _mend_tail(file, reader, scan, block, number + 1)
                break
            lines = block.split(b"\n")
            lines.pop()
            spoiled = b"\0" in block
            for line in lines:
                number += 1
                index = None if spoiled and b"\0" in line else reader.index_of(line, number)
                if index is None:
                    scan.damaged = True
                else:
                    scan.take(index)
    except LineTooLongError as error:
        raise JournalError(f"{file.name}: line {number + 1} is too long for a result") from error
    file.lines = number
    return scan


def _mend_tail(
    file: ResultFile, reader: ResultReader, scan: Scan, tail: bytes, number: int
) -> bool:
    """Whether the last line, which has no line break, was kept."""
    if not len(scan.seen) and not reader.is_ours_cut_short(tail):
        # Not our beginning: it is refused below, unless it is one of ours written differently.
        reader.index_of(tail, number)
    index = None
    if b"\0" not in tail and _is_whole(tail):
        index = reader.index_of(tail, number)
    if index is None:
        file.cut(file.size - len(tail))
        return False
    file.append(b"\n")
    scan.take(index)
    return True


def _is_whole(line: bytes) -> bool:
    try:
        _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def looks_like_results(file: ResultFile) -> bool:
    """Whether the file begins as results of some batch do, or is empty."""
    beginning = os.pread(file.fd, _LOOK_BYTES, 0)
    # Blank lines and zeros say nothing about what the file is.
    first = beginning.lstrip(b"\0 \r\n").split(b"\n", 1)[0]
    if not first or first.startswith(_START) or _START.startswith(first):
        return True
    try:
        return _decode(first).id.startswith(LINE_ID_PREFIX)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
