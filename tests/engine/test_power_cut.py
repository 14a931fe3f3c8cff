"""What a power cut leaves of a result file: torn ends, and sectors of zeros anywhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.errors import JournalError

from .batch_files import FILES, read_lines
from .test_journal import Bench

SECTOR = 512
LINES = 12
SIZES = st.lists(st.integers(0, 3_000), min_size=LINES, max_size=LINES)
PLACES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=5)


def spoil(content: bytes, lost: list[tuple[int, int]], keep: int) -> bytes:
    """`content` without the sectors that were `lost`, of which only `keep` bytes have a place."""
    left = bytearray(content)
    for first, count in lost:
        start, end = first * SECTOR, min((first + count) * SECTOR, len(left))
        left[start:end] = bytes(max(0, end - start))
    return bytes(left[:keep])


@settings(FILES, max_examples=60)
@given(sizes=SIZES, lost=PLACES, keep=st.integers(200, 40_000))
def test_lines_that_lost_nothing_count_and_all_others_are_sent_again(
    tmp_path: Path, sizes: list[int], lost: list[tuple[int, int]], keep: int
) -> None:
    bench = Bench(tmp_path, lines=LINES)
    lines = [bench.line(index, mark="x" * size) for index, size in enumerate(sizes)]
    left = spoil(b"".join(lines), lost, keep)
    bench.output.write_bytes(left)
    start, whole = 0, set[int]()
    for index, line in enumerate(lines):
        before = left[start - 1 : start] in (b"", b"\n")
        after = left[start + len(line) - 1 : start + len(line)] in (b"", b"\n")
        if before and after and left[start : start + len(line) - 1] == line[:-1]:
            whole.add(index)
        start += len(line)
    begins_of_some = f'{{"id":"batch_req_{bench.plan.fingerprint}_'.encode() in left

    async def finish() -> set[int]:
        async with bench.run() as journal:
            done = {index for index in range(LINES) if journal.is_done(index)}
            for index in set(range(LINES)) - done:
                await journal.append(index, lines[index], True)
        return done

    try:
        assert asyncio.run(finish()) == whole
    except JournalError:
        # Nothing is left that tells whose file it is.
        assert not whole
        assert not begins_of_some
        assert bench.output.read_bytes() == left
        bench.output.unlink()
    else:
        assert sorted(json.dumps(line) for line in read_lines(bench.output)) == sorted(
            json.dumps(json.loads(line)) for line in lines
        )
        bench.output.unlink()
    bench.close()


@pytest.mark.parametrize("size", [1, 20, 4_095])
def test_a_first_line_of_which_only_the_length_was_written_is_sent_again(
    tmp_path: Path, size: int
) -> None:
    bench = Bench(tmp_path)
    for written in (b"", b"{", b'{"id":"batch_', bench.line(0)[:50]):
        bench.output.write_bytes(written + bytes(size))
        assert bench.done() == []
        bench.errors.write_bytes(written + bytes(size))
        assert bench.done() == []
    bench.close()
