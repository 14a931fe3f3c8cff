"""The output is the journal: what was written is done, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.errors import JournalError
from batch_gateway.wire.lines import error_line, line_id, success_line

from .batch_files import FILES, ids_in, names_in, read_lines, write_batch

pytestmark = pytest.mark.anyio


class Bench:
    """A batch of a few lines and its two files."""

    def __init__(self, folder: Path, lines: int = 4) -> None:
        self.plan: Plan = make_plan(write_batch(folder / "requests.jsonl", lines))
        self.output = folder / "results.jsonl"
        self.errors = folder / "results.errors.jsonl"

    def open(self, **settings: bool) -> FileJournal:
        return FileJournal.open(self.plan, self.output, self.errors, **settings)

    def line(self, index: int, ok: bool = True, mark: str = "") -> bytes:
        result_id, name = line_id(self.plan.fingerprint, index), f"id-{index}"
        if not ok:
            return error_line(result_id, name, "server_error", f"broken {mark}")
        return success_line(result_id, name, 200, "r", b'{"mark":"%b"}' % mark.encode())

    @asynccontextmanager
    async def run(self, **settings: bool) -> AsyncIterator[FileJournal]:
        """A run that ends in good order."""
        async with self.open(**settings) as journal:
            yield journal
            await journal.finish()

    async def record(self, *indexes: int, ok: bool = True, mark: str = "") -> None:
        async with self.run() as journal:
            for index in indexes:
                await journal.append(index, self.line(index, ok, mark), ok)

    def done(self) -> list[int]:
        """What the next run would not send."""

        async def read() -> list[int]:
            async with self.open() as journal:
                return [index for index in range(self.plan.total) if journal.is_done(index)]

        return asyncio.run(read())

    def close(self) -> None:
        self.plan.close()


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_recorded_lines_are_done_in_the_next_run(bench: Bench) -> None:
    async with bench.run() as journal:
        await journal.append(2, bench.line(2), True)
        await journal.append(0, bench.line(0, ok=False), False)
    async with bench.run() as journal:
        assert [journal.is_done(index) for index in range(4)] == [True, False, True, False]
        assert (journal.succeeded, journal.failed, journal.without_result) == (1, 1, 2)
    assert ids_in(bench.output) == ["id-2"]
    assert ids_in(bench.errors) == ["id-0"]


async def test_lines_reach_the_file_soon_without_being_asked(bench: Bench) -> None:
    async with bench.run() as journal:
        await journal.append(1, bench.line(1), True)
        async with asyncio.timeout(5):
            while not bench.output.read_bytes():
                await asyncio.sleep(0.005)
        assert bench.output.read_bytes() == bench.line(1)


async def test_a_run_that_recorded_nothing_leaves_nothing_behind(
    bench: Bench, tmp_path: Path
) -> None:
    async with bench.run():
        pass
    assert names_in(tmp_path) == ["requests.jsonl"]


async def test_the_error_file_is_there_only_when_there_are_errors(bench: Bench) -> None:
    await bench.record(0)
    assert bench.output.exists()
    assert not bench.errors.exists()
    await bench.record(1, ok=False)
    assert bench.errors.exists()


async def test_a_second_run_on_the_same_output_is_refused(bench: Bench, tmp_path: Path) -> None:
    async with bench.run():
        with pytest.raises(JournalError, match=r"results\.jsonl: another run is writing to it"):
            bench.open()
        with pytest.raises(JournalError, match=r"errors\.jsonl: another run is writing"):
            FileJournal.open(bench.plan, tmp_path / "other.jsonl", bench.errors)
        assert not (tmp_path / "other.jsonl").exists()
    async with bench.run():
        pass


def test_a_torn_last_line_at_any_byte_is_cut_off_and_sent_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    whole = bench.line(0) + bench.line(1)
    for size in range(len(whole) + 1):
        bench.output.write_bytes(whole[:size])
        done = bench.done()
        # A line that only lacks its line break is complete, and keeps its result.
        expected = [index for index, end in ((0, len(bench.line(0))), (1, len(whole)))
                    if size >= end - 1]  # fmt: skip
        assert done == expected, size
        if size:
            left = bench.output.read_bytes() if bench.output.exists() else b""
            assert left == b"".join(bench.line(index) for index in expected), size
    bench.close()


@settings(FILES, max_examples=60)
@given(
    events=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    cut=st.integers(0, 400),
    zeros=st.integers(0, 20),
)
def test_after_any_crash_every_whole_line_counts_and_one_more_run_leaves_one_line_each(
    tmp_path: Path, events: list[tuple[int, bool]], cut: int, zeros: int
) -> None:
    bench = Bench(tmp_path, lines=6)
    outputs = b"".join(bench.line(index) for index, ok in events if ok)
    errors = b"".join(bench.line(index, ok=False) for index, ok in events if not ok)
    torn = outputs[: max(0, len(outputs) - cut)]
    bench.output.write_bytes(torn + b"\0" * zeros)
    bench.errors.write_bytes(errors)
    *whole, tail = torn.split(b"\n")
    whole += [tail] if is_json(tail) and not zeros else []
    succeeded = {json.loads(line)["custom_id"] for line in whole}
    failed = {f"id-{index}" for index, ok in events if not ok} - succeeded

    async def finish() -> None:
        async with bench.run() as journal:
            assert journal.succeeded == len(succeeded)
            for index in range(6):
                if not journal.is_done(index):
                    await journal.append(index, bench.line(index), True)

    asyncio.run(finish())
    done = ids_in(bench.output) + ids_in(bench.errors)
    assert sorted(done) == [f"id-{index}" for index in range(6)]
    assert set(ids_in(bench.errors)) <= failed
    bench.close()


async def test_zeros_that_a_power_cut_left_in_the_middle_do_not_count(bench: Bench) -> None:
    damaged = bytearray(bench.line(0) + bench.line(1) + bench.line(2))
    start = len(bench.line(0)) + 40
    damaged[start : start + 30] = bytes(30)
    bench.output.write_bytes(damaged)
    async with bench.run() as journal:
        assert [journal.is_done(index) for index in range(4)] == [True, False, True, False]
    assert ids_in(bench.output) == ["id-0", "id-2"]


@pytest.mark.parametrize(
    "content",
    [b"my notes\n", b"my notes", b'{"id": 1}\n', b'{"id":"x","custom_id":"y"}\n', b"\n{}", b"[]"],
)
async def test_a_file_of_another_kind_is_left_alone(bench: Bench, content: bytes) -> None:
    bench.output.write_bytes(content)
    for fresh in (False, True):
        with pytest.raises(JournalError, match="choose another output"):
            bench.open(fresh=fresh)
    assert bench.output.read_bytes() == content


async def test_results_of_another_input_are_refused_and_fresh_starts_over(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.record(0, 1)
    await bench.record(2, ok=False)
    write_batch(tmp_path / "requests.jsonl", 5)
    with make_plan(tmp_path / "requests.jsonl") as changed:
        for size in (None, 40):
            if size:
                os.truncate(bench.output, size)
            with pytest.raises(JournalError, match=r"holds results of another input.*--fresh"):
                FileJournal.open(changed, bench.output, bench.errors)
        async with FileJournal.open(changed, bench.output, bench.errors, fresh=True) as journal:
            assert journal.without_result == 5
    assert not bench.errors.exists()


async def test_two_results_for_one_line_become_one(bench: Bench) -> None:
    bench.output.write_bytes(
        b"".join(bench.line(i, mark=m) for i, m in ((1, "first"), (0, "x"), (1, "later")))
    )
    bench.errors.write_bytes(
        b"".join(bench.line(i, False, m) for i, m in ((0, "old"), (2, "one"), (2, "two")))
    )
    async with bench.run() as journal:
        assert (journal.succeeded, journal.failed) == (2, 1)
    outputs = {line["custom_id"]: line["response"]["body"] for line in read_lines(bench.output)}
    assert outputs == {"id-0": {"mark": "x"}, "id-1": {"mark": "first"}}
    (error,) = read_lines(bench.errors)
    assert (error["custom_id"], error["error"]["message"]) == ("id-2", "broken two")


async def test_failed_lines_are_sent_again_when_asked_and_only_they(bench: Bench) -> None:
    await bench.record(0)
    await bench.record(1, 2, ok=False, mark="old")
    async with bench.open(retry_failed=True) as journal:
        assert [journal.is_done(index) for index in range(4)] == [True, False, False, True]
        await journal.append(1, bench.line(1), True)
        await journal.flush()
        assert journal.still_to_retry == 1
        # Killed here: the old error stays until its line has a new result.
    assert ids_in(bench.errors) == ["id-1", "id-2"]
    async with bench.run(retry_failed=True) as journal:
        assert [journal.is_done(index) for index in range(4)] == [True, True, False, True]
        await journal.append(2, bench.line(2, ok=False, mark="new"), False)
        assert journal.still_to_retry == 0
    assert sorted(ids_in(bench.output)) == ["id-0", "id-1"]
    (error,) = read_lines(bench.errors)
    assert (error["custom_id"], error["error"]["message"]) == ("id-2", "broken new")
    async with bench.run(retry_failed=True) as journal:
        await journal.append(2, bench.line(2), True)
    assert not bench.errors.exists()


async def test_results_are_put_in_input_order_once_all_are_there(bench: Bench) -> None:
    async with bench.open() as journal:
        for index in (3, 1, 0):
            await journal.append(index, bench.line(index), True)
        await journal.finish(ordered=True)
        assert ids_in(bench.output) == ["id-3", "id-1", "id-0"]
        await journal.append(2, bench.line(2), True)
        await journal.finish(ordered=True)
    assert ids_in(bench.output) == ["id-0", "id-1", "id-2", "id-3"]


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b'{"id":"ba', b'{"custom_id": "a", "id": "LINE']
)
async def test_what_a_crash_left_of_a_new_file_is_removed(bench: Bench, content: bytes) -> None:
    name = line_id(bench.plan.fingerprint, 0).encode()
    leftover = bench.output.with_name(f".{bench.output.name}.rewrite")
    leftover.write_bytes(content.replace(b"LINE", name))
    await bench.record(0)
    assert not leftover.exists()


@pytest.mark.parametrize("kind", ["text", "folder", "link"])
async def test_what_is_somebodys_in_the_place_of_a_new_file_stays(bench: Bench, kind: str) -> None:
    leftover = bench.output.with_name(f".{bench.output.name}.rewrite")
    mine = bench.output.with_name("mine")
    mine.write_text("my notes")
    make = {"text": lambda: mine.rename(leftover), "folder": leftover.mkdir}
    make.get(kind, lambda: leftover.symlink_to(mine))()
    with pytest.raises(JournalError, match=r"results.jsonl.rewrite: is in the place .* move it"):
        bench.open()
    assert kind == "folder" or leftover.read_text() == "my notes"
    assert not bench.output.exists()


async def test_rewriting_keeps_the_mode_and_the_link_and_leaves_no_other_file(
    bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target = folder / "real.jsonl"
    target.write_bytes(bench.line(1) * 2)
    target.chmod(0o640)
    bench.output.symlink_to(target)
    (folder / ".real.jsonl.rewrite").write_bytes(bench.line(0)[:90])
    async with bench.run():
        pass
    assert bench.output.is_symlink()
    assert target.read_bytes() == bench.line(1)
    assert target.stat().st_mode & 0o777 == 0o640
    assert names_in(folder) == ["real.jsonl"]


async def test_a_result_line_written_differently_is_recognised(bench: Bench) -> None:
    spaced = json.dumps(json.loads(bench.line(3)), indent=None).encode()
    bench.output.write_bytes(spaced + b"\n\n" + bench.line(1))
    async with bench.run() as journal:
        assert [journal.is_done(index) for index in range(4)] == [False, True, False, True]


async def test_impossible_places_for_results_are_refused(bench: Bench, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    with pytest.raises(JournalError, match="is the input itself"):
        FileJournal.open(bench.plan, requests, bench.errors)
    with pytest.raises(JournalError, match="is the input itself"):
        FileJournal.open(bench.plan, bench.output, requests)
    with pytest.raises(JournalError, match="must be two files"):
        FileJournal.open(bench.plan, bench.output, bench.output)
    with pytest.raises(JournalError, match=r"the folder .*nowhere does not exist"):
        FileJournal.open(bench.plan, tmp_path / "nowhere" / "r.jsonl", bench.errors)
    with pytest.raises(JournalError, match="is not a regular file"):
        FileJournal.open(bench.plan, "/dev/null", bench.errors)
    with pytest.raises(JournalError, match="is not a regular file"):
        FileJournal.open(bench.plan, tmp_path, bench.errors)
    assert names_in(tmp_path) == ["requests.jsonl"]


async def test_a_result_for_a_line_that_cannot_exist_is_refused(bench: Bench) -> None:
    bench.output.write_bytes(bench.line(4))
    with pytest.raises(JournalError, match=r"is for request 5, and .* has only 4"):
        bench.open()


async def test_appending_waits_when_the_disk_falls_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, lines=12)
    asyncio_started, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real_write = os.write

    def slow_write(fd: int, data: bytes) -> int:
        loop.call_soon_threadsafe(asyncio_started.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return real_write(fd, data)

    monkeypatch.setattr("batch_gateway.engine.result_file.os.write", slow_write)
    line = bench.line(0)[:-3] + b',"pad":"' + b"x" * 1024**2 + b'"}\n'
    async with bench.open() as journal:
        for index in range(7):
            await journal.append(index, line, True)
        waiting = asyncio.create_task(journal.append(7, line, True))
        await asyncio.wait_for(asyncio_started.wait(), 10)
        assert not waiting.done()
        release.set()
        await asyncio.wait_for(waiting, 10)
    bench.close()
