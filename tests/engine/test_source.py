"""Sources: the same bytes from a file, from memory and from a range, until they change."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.source import BytesSource, FileSource, RangeSource, Source
from batch_gateway.errors import InputError

from .batch_files import FILES, request, text_of, write_batch

FRAMED = b"before\n", b"after"


def in_memory(content: bytes, folder: Path) -> Source:
    return BytesSource(content)


def in_a_file(content: bytes, folder: Path) -> Source:
    (folder / "lines").write_bytes(content)
    return FileSource.open(folder / "lines")


def in_a_range(content: bytes, folder: Path) -> Source:
    before, after = FRAMED
    whole = BytesSource(before + content + after)
    return RangeSource(whole, len(before), len(before) + len(content))


def in_a_range_of_a_range(content: bytes, folder: Path) -> Source:
    whole = in_a_range(b"x\n" + content + b"y", folder)
    return RangeSource(whole, 2, 2 + len(content))


def spooled(content: bytes, folder: Path) -> Source:
    return FileSource.spool(io.BytesIO(content), directory=folder)


KINDS = [in_memory, in_a_file, in_a_range, in_a_range_of_a_range, spooled]
Kind = Callable[[bytes, Path], Source]
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@FILES
@given(
    lines=st.lists(st.binary(max_size=9), max_size=9),
    places=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_every_kind_gives_the_same_bytes(
    kind: Kind, tmp_path: Path, lines: list[bytes], places: tuple[int, int]
) -> None:
    content = b"\n".join(lines)
    start, end = sorted(min(place, len(content)) for place in places)
    source = kind(content, tmp_path)
    try:
        assert source.size() == len(content)
        assert source.read(start, end) == content[start:end]
        for first, last in ((0, None), (start, end)):
            blocks = list(source.blocks(first, last))
            assert b"".join(block for _, block in blocks) == content[first:last]
            assert all(content[at : at + len(block)] == block for at, block in blocks)
            assert all(block.endswith(b"\n") for _, block in blocks[:-1])
    finally:
        source.close()
        source.close()


@each_kind
@FILES
@given(
    content=st.binary(max_size=200),
    places=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 12)), max_size=20),
    onward=st.booleans(),
)
def test_parts_can_be_read_in_any_order(
    kind: Kind, tmp_path: Path, content: bytes, places: list[tuple[int, int]], onward: bool
) -> None:
    source = kind(content, tmp_path)
    try:
        for start, length in sorted(places) if onward else places:
            assert source.read(start, start + length) == content[start : start + length]
    finally:
        source.close()


def test_a_change_is_noticed_some_lines_later_by_who_reads_line_after_line(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "r.jsonl", 100)
    before = path.read_bytes().splitlines()
    with make_plan(path) as plan:
        assert plan.read(0) == before[0]
        path.write_bytes(path.read_bytes().replace(b"hello", b"HELLO"))
        os.utime(path, ns=(1, 1))
        read: list[bytes] = []
        with pytest.raises(InputError, match="changed while it was running"):
            read.extend(map(plan.read, range(1, 100)))
    assert read == before[1 : len(read) + 1]
    assert len(read) < 20


@each_kind
def test_every_kind_can_be_planned(kind: Kind, tmp_path: Path) -> None:
    content = text_of(request(name) for name in "abc")
    with make_plan(kind(content, tmp_path)) as plan, make_plan(BytesSource(content)) as same:
        assert plan.fingerprint == same.fingerprint
        assert [plan.read(index) for index in range(3)] == content.splitlines()


@pytest.mark.parametrize("part", [False, True])
def test_a_file_that_changed_is_not_read_from(tmp_path: Path, part: bool) -> None:
    path = write_batch(tmp_path / "r.jsonl", 3)
    file = FileSource.open(path)
    source: Source = RangeSource(file, 10, 20) if part else file
    assert len(source.read(0, 5)) == 5
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match=r"r\.jsonl changed while it was running"):
        source.read(0, 5)
    with pytest.raises(InputError, match="is it still being written"):
        list(source.blocks())
    file.close()


def test_a_file_that_grows_during_the_first_pass_is_refused(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "r.jsonl", 3)

    def write_on(done: int, size: int) -> None:
        with path.open("ab") as file:
            file.write(b"\n")

    with pytest.raises(InputError, match="changed while it was being read"):
        make_plan(path, on_progress=write_on)


@pytest.mark.parametrize("call", ["pread", "fstat"])
def test_a_device_that_fails_is_an_input_error_with_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    source = FileSource.open(write_batch(tmp_path / "r.jsonl", 3))

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    # For so long only: pytest has uses for them of its own.
    with monkeypatch.context() as patched:
        patched.setattr(f"batch_gateway.engine.source.os.{call}", broken)
        with pytest.raises(InputError, match=r"r\.jsonl: Input/output error"):
            source.read(0, 1)
        with pytest.raises(InputError, match=r"r\.jsonl: Input/output error"):
            make_plan(source)
