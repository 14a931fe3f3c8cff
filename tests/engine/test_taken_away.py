"""Result files that somebody removes, moves, replaces or changes while a run writes to them."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.progress import RunSummary
from batch_gateway.engine.result_file import ResultFile, open_result_file
from batch_gateway.errors import InvalidRequestError, JournalError
from batch_gateway.wire.lines import line_id, success_line

from .batch_files import ids_in, names_in, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, failing, succeed, when_let_go

pytestmark = pytest.mark.anyio
LINES, BEFORE = 30, 20


async def answer_some(gateway: FakeGateway, prompt: str) -> bytes:
    return await (succeed if len(gateway.prompts) <= BEFORE else when_let_go)(gateway, prompt)


async def tampered(folder: Folder, tamper: Callable[[Path], object], **options: bool) -> RunSummary:
    """A run whose results somebody tampers with when twenty of thirty are there."""
    write_batch(folder.input, LINES)
    gateway = FakeGateway(answer_some)
    async with folder.running(gateway, concurrency=5, **options) as task:
        await gateway.until(lambda: len(gateway.answered) == BEFORE and gateway.in_flight == 5)
        while not folder.output.exists() or folder.output.read_bytes().count(b"\n") < BEFORE:
            await asyncio.sleep(0.005)
        tamper(folder.output)
        gateway.gate.set()
        return await task


def replace(path: Path) -> None:
    path.with_name("new").write_text("mine now")
    path.with_name("new").rename(path)


@pytest.mark.parametrize("tamper", [os.unlink, replace])
@pytest.mark.parametrize("ordered", [False, True])
async def test_results_that_are_gone_do_not_count(
    folder: Folder, tamper: Callable[[Path], object], ordered: bool
) -> None:
    summary = await tampered(folder, tamper, ordered=ordered)
    assert "results.jsonl: was removed or replaced while the run wrote" in str(
        summary.journal_problem
    )
    assert (summary.succeeded, summary.left_to_send) == (0, LINES)
    if tamper is replace:
        assert folder.output.read_text() == "mine now"
        folder.output.unlink()
    assert (await folder.run(FakeGateway())).succeeded == LINES


async def test_results_that_were_moved_are_gone_on_with_when_they_are_put_back(
    folder: Folder,
) -> None:
    aside = folder.output.with_name("aside.jsonl")
    summary = await tampered(folder, lambda path: path.rename(aside))
    assert "was moved to another name while the run wrote to it; put it back" in str(
        summary.journal_problem
    )
    assert not folder.output.exists()
    kept = len(ids_in(aside))
    assert summary.succeeded == kept >= BEFORE
    aside.rename(folder.output)
    gateway = FakeGateway()
    assert (await folder.run(gateway)).succeeded == LINES
    assert len(gateway.prompts) == LINES - kept


@pytest.mark.parametrize("size", [0, 300, 700])
async def test_results_that_were_cut_short_are_counted_as_they_are(
    folder: Folder, size: int
) -> None:
    summary = await tampered(folder, lambda path: os.truncate(path, size))
    assert "was cut short while the run wrote to it; the same command sends" in str(
        summary.journal_problem
    )
    assert summary.succeeded < LINES
    again = FakeGateway()
    assert (await folder.run(again)).succeeded == LINES
    assert len(again.prompts) == LINES - summary.succeeded
    assert len(ids_in(folder.output)) == LINES


async def test_words_that_another_program_wrote_into_the_results_stay(folder: Folder) -> None:
    def write(path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"a word from elsewhere\n")

    summary = await tampered(folder, write, ordered=True)
    assert "was written to by another program while the run wrote to it" in str(
        summary.journal_problem
    )
    left = folder.output.read_bytes()
    assert b"a word from elsewhere\n" in left
    # What it advises goes on.
    assert "take out what is no result" in str(summary.journal_problem)
    with pytest.raises(JournalError, match="line 21 is not a result of .* take it out if"):
        await folder.run(FakeGateway())
    folder.output.write_bytes(left.replace(b"a word from elsewhere\n", b""))
    assert (await folder.run(FakeGateway())).succeeded == LINES


async def test_a_folder_that_is_removed_with_the_results_is_to_be_made_again(
    folder: Folder, tmp_path: Path
) -> None:
    folder.output, folder.errors = (tmp_path / "away" / name for name in ("r.jsonl", "e.jsonl"))
    folder.output.parent.mkdir()
    summary = await tampered(folder, lambda path: shutil.rmtree(path.parent))
    assert "make the folder again" in str(summary.journal_problem)
    assert (summary.succeeded, summary.left_to_send) == (0, LINES)
    folder.output.parent.mkdir()
    assert (await folder.run(FakeGateway())).succeeded == LINES


@pytest.mark.parametrize("fails", [False, True])
async def test_a_file_moved_to_the_name_of_the_empty_error_file_stays(
    folder: Folder, fails: bool
) -> None:
    write_batch(folder.input, LINES)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        await gateway.gate.wait()
        if fails and prompt.endswith("id-7"):
            raise InvalidRequestError("HTTP 400: no", status_code=400)
        return await succeed(gateway, prompt)

    gateway = FakeGateway(answer)
    mine = folder.errors.with_name("mine")
    mine.write_text("mine")
    async with folder.running(gateway, concurrency=5) as task:
        await gateway.until(lambda: gateway.in_flight == 5)
        assert folder.errors.read_bytes() == b""
        mine.rename(folder.errors)
        gateway.gate.set()
        summary = await task
    assert folder.errors.read_text() == "mine"
    if fails:
        assert "results.errors.jsonl: was removed or replaced" in str(summary.journal_problem)
    else:
        assert summary.journal_problem is None
    assert (summary.failed, summary.left_to_send) == (0, int(fails))
    assert summary.succeeded == len(ids_in(folder.output)) == LINES - fails


async def test_an_empty_error_file_that_somebody_removes_stops_no_run(folder: Folder) -> None:
    write_batch(folder.input, LINES)
    gateway = FakeGateway(when_let_go)
    async with folder.running(gateway, concurrency=5) as task:
        await gateway.until(lambda: gateway.in_flight == 5)
        folder.errors.unlink()
        gateway.gate.set()
        summary = await task
    assert (summary.succeeded, summary.journal_problem) == (LINES, None)


async def test_an_error_file_that_was_written_to_by_others_is_not_removed(folder: Folder) -> None:
    write_batch(folder.input, LINES)
    gateway = FakeGateway(when_let_go)
    async with folder.running(gateway, concurrency=5) as task:
        await gateway.until(lambda: gateway.in_flight == 5)
        folder.errors.write_text("a note\n")
        gateway.gate.set()
        await task
    assert folder.errors.read_text() == "a note\n"


async def test_a_removed_error_file_is_noticed_before_it_is_said_that_lines_failed(
    folder: Folder,
) -> None:
    write_batch(folder.input, 3)
    refuse = failing(lambda: InvalidRequestError("HTTP 400: no", status_code=400))

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) == 3:
            folder.errors.unlink()
        answer = succeed if len(gateway.prompts) == 1 else refuse
        return await answer(gateway, prompt)  # type: ignore[return-value]

    summary = await folder.run(FakeGateway(answer), concurrency=1)
    assert "results.errors.jsonl: was removed" in str(summary.journal_problem)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (1, 0, 2)
    assert names_in(folder.output.parent) == ["requests.jsonl", "results.jsonl"]


async def test_two_runs_where_files_cannot_be_locked_notice_one_another(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("batch_gateway.engine.result_file.fcntl.flock", no_locks)
    write_batch(folder.input, LINES)
    gateway = FakeGateway(when_let_go)
    async with folder.running(gateway, concurrency=5) as task:
        await gateway.until(lambda: gateway.in_flight == 5)
        other = await folder.run(FakeGateway())
        assert (other.succeeded, other.journal_problem) == (LINES, None)
        gateway.gate.set()
        summary = await task
    assert "was written to by another program" in str(summary.journal_problem)
    assert (await folder.run(FakeGateway())).succeeded == LINES
    assert len(ids_in(folder.output)) == LINES


def test_a_file_that_grows_while_it_is_looked_at_was_not_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_result_file(tmp_path / "results.jsonl")
    file.append(b"{}\n", 1)
    look = os.fstat

    def look_and_grow(fd: int) -> os.stat_result:
        seen = look(fd)
        file.append(b"{}\n", 1)
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", look_and_grow)
        file.check(writing=True)
    file.close()


async def test_a_file_that_is_put_in_order_is_not_looked_at_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(write_batch(tmp_path / "requests.jsonl", 2))
    threads: set[int] = set()

    def note(original: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: Any, **more: Any) -> None:
            threads.add(threading.get_ident())
            original(*arguments, **more)

        return noted

    monkeypatch.setattr(ResultFile, "replace", note(ResultFile.replace))
    monkeypatch.setattr(ResultFile, "sync", note(ResultFile.sync))
    async with FileJournal.open(plan, tmp_path / "out", tmp_path / "errors") as journal:
        for index in (1, 0):
            name = f"id-{index}"
            result = success_line(line_id(plan.fingerprint, index), name, 200, "r", b"{}")
            await journal.append(index, result, True)
        await journal.finish(ordered=True)
        await journal.flush()
    assert len(threads) == 1
    plan.close()
