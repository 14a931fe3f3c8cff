"""Reading which requests of a batch have a result, from the result lines themselves."""

from __future__ import annotations

import msgspec

from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.line_blocks import LineTooLongError, iter_blocks
from batch_gateway.engine.result_file import ResultFile
from batch_gateway.engine.result_reader import AnyResultReader
from batch_gateway.errors import JournalError

__all__ = ["Scan", "check_results", "mend_tail", "scan_results"]


class Scan(msgspec.Struct):
    """What a result file holds.

    Attributes:
        seen: indexes with at least one line.
        repeated: some index has several lines.
        damaged: some lines cannot be trusted (a power cut left zeros) and count for nothing.
        in_order: the lines stand in input order.
        last: index of the last line, -1 without any.
        lines: how many lines there are.
        end: where the last line that is to stay ends, its line break not counted if it has none.
        unended: the last line lacks nothing but its line break.
    """

    seen: Bitmap
    repeated: bool = False
    damaged: bool = False
    in_order: bool = True
    last: int = -1
    lines: int = 0
    end: int = 0
    unended: bool = False

    def take(self, index: int) -> None:
        """One more line, for the request `index`."""
        if not self.seen.add(index):
            self.repeated = True
        self.follow(index)

    def follow(self, index: int) -> None:
        """One more line, for a request that whoever writes it puts into `seen`."""
        if index <= self.last:
            self.in_order = False
        self.last = index


def scan_results(file: ResultFile, reader: AnyResultReader, requests: range) -> Scan:
    """Read the whole file, and change nothing.

    Raises JournalError when it holds anything but results, whole or damaged; and OSError.
    """
    scan = Scan(Bitmap(requests))
    # A line that need not be ours is taken for damage only where another one surely is ours.
    doubtful: tuple[bytes, int] | None = None
    proven = False
    try:
        for offset, block in iter_blocks(file.read):
            lines = block.split(b"\n")
            tail = lines.pop()
            for number, line in enumerate(lines, scan.lines + 1):
                index = reader.index_of(line, number)
                if index is not None:
                    scan.take(index)
                    continue
                scan.damaged = True
                proven = proven or reader.begins(line)
                doubtful = doubtful or (line, number)
            scan.lines += len(lines)
            scan.end = offset + len(block) - len(tail)
            if tail:
                _take_tail(scan, reader, tail)
                alone = scan.lines == 0 and reader.is_all_that_was_written(tail)
                proven = proven or alone or reader.begins(tail)
                doubtful = doubtful or (tail, scan.lines + 1)
    except LineTooLongError as error:
        number = scan.lines + 1
        raise JournalError(f"{file.name}: line {number} is too long for a result") from error
    if doubtful is not None and not proven and not len(scan.seen):
        reader.refuse(*doubtful)
    return scan


def _take_tail(scan: Scan, reader: AnyResultReader, tail: bytes) -> None:
    """The end of the file, which has no line break: kept when it is whole without one."""
    is_cut_short = reader.may_begin(tail)
    index = None if is_cut_short else reader.index_of(tail, scan.lines + 1)
    if index is not None:
        scan.take(index)
        scan.end += len(tail)
        scan.unended = True


def mend_tail(file: ResultFile, scan: Scan) -> None:
    """Cut off a torn last line, or end one that lacks only its line break. Raises OSError."""
    if scan.end != file.size:
        file.cut(scan.end)
    file.lines = scan.lines
    if scan.unended:
        file.append(b"\n", 1)


def check_results(file: ResultFile) -> None:
    """Raises JournalError when a file is not, as a whole, the results of some batch; OSError."""
    try:
        scan_results(file, AnyResultReader(file.name), range(1))
    except JournalError as error:
        raise JournalError(
            f"{file.name}: does not look like batch results, so --fresh does not empty it; "
            "delete it yourself, or choose another output"
        ) from error
