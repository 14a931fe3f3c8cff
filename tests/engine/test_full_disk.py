"""A disk that takes no more stops the run, keeps every whole result, and the run can go on."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.progress import RunSummary
from batch_gateway.engine.result_file import ResultFile
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.errors import JournalError

from .batch_files import ids_in, names_in, write_batch
from .fake_gateways import FakeGateway

pytestmark = pytest.mark.anyio
LINES = 2_000


async def run(requests: Path, folder: Path, gateway: FakeGateway, **options: bool) -> RunSummary:
    with make_plan(requests) as plan:
        journal = FileJournal.open(plan, folder / "results.jsonl", folder / "errors.jsonl")
        async with journal:
            settings = RunOptions(concurrency=10, **options)  # type: ignore[arg-type]
            return await run_plan(plan, journal, lambda _: gateway, options=settings)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small disk is not permitted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def free_space(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


def check_stopped(summary: RunSummary, output: Path, reason: str, cure: str) -> int:
    """How many results were kept; the message must say so too."""
    words = rf"results\.jsonl: {reason}; ([\d,]+) results are safe; {cure} and run the same"
    found = re.search(words, summary.journal_problem or "")
    assert found, summary.journal_problem
    content = output.read_bytes()
    kept = content.count(b"\n")
    assert content.endswith(b"\n")
    assert len(ids_in(output)) == kept == int(found.group(1).replace(",", ""))
    assert (summary.succeeded, summary.failed) == (kept, 0)
    assert summary.left_to_send == LINES - kept
    assert 0 < kept < LINES
    return kept


async def test_a_limit_on_file_size_stops_the_run_and_the_next_one_finishes_it(
    tmp_path: Path,
) -> None:
    requests, output = write_batch(tmp_path / "requests.jsonl", LINES), tmp_path / "results.jsonl"
    with files_limited_to(50_000):
        stopped = await run(requests, tmp_path, FakeGateway())
    kept = check_stopped(stopped, output, "File too large", r"raise the limit .*\(`ulimit -f`\)")
    gateway = FakeGateway()
    assert (await run(requests, tmp_path, gateway)).succeeded == LINES
    assert len(gateway.prompts) == LINES - kept
    assert sorted(ids_in(output)) == sorted(f"id-{n}" for n in range(LINES))


async def test_a_full_disk_stops_the_run_and_the_next_one_finishes_it(
    tmp_path: Path, small_disk: Path
) -> None:
    requests, output = write_batch(tmp_path / "requests.jsonl", LINES), small_disk / "results.jsonl"
    stopped = await run(requests, small_disk, FakeGateway())
    kept = check_stopped(stopped, output, "No space left on device", "free space")
    free_space(small_disk)
    gateway = FakeGateway()
    assert (await run(requests, small_disk, gateway, ordered=True)).succeeded == LINES
    assert len(gateway.prompts) == LINES - kept
    assert ids_in(output) == [f"id-{n}" for n in range(LINES)]


async def test_a_device_that_fails_is_not_said_to_be_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, output = write_batch(tmp_path / "requests.jsonl", LINES), tmp_path / "results.jsonl"

    def fail(file: ResultFile) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), file.name)

    with monkeypatch.context() as patch:
        patch.setattr(ResultFile, "sync", fail)
        stopped = await run(requests, tmp_path, FakeGateway())
    assert "results.jsonl: Input/output error; " in str(stopped.journal_problem)
    assert "are safe; mend that and run the same command again" in str(stopped.journal_problem)
    assert (await run(requests, tmp_path, FakeGateway())).succeeded == LINES
    assert len(ids_in(output)) == LINES


async def test_no_room_for_the_final_form_leaves_the_results_as_they_are(tmp_path: Path) -> None:
    requests, output = write_batch(tmp_path / "requests.jsonl", LINES), tmp_path / "results.jsonl"
    await run(requests, tmp_path, FakeGateway())
    before = output.read_bytes()
    output.write_bytes(b"".join(reversed(before.splitlines(keepends=True))))
    backwards = output.read_bytes()
    with files_limited_to(len(before) // 2):
        summary = await run(requests, tmp_path, FakeGateway(), ordered=True)
    assert "every result is safe" in (summary.journal_problem or "")
    assert output.read_bytes() == backwards
    assert names_in(tmp_path) == ["requests.jsonl", "results.jsonl"]
    await run(requests, tmp_path, FakeGateway(), ordered=True)
    assert ids_in(output) == [f"id-{n}" for n in range(LINES)]


async def test_a_place_that_is_no_folder_is_told_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    requests = write_batch(tmp_path / "requests.jsonl", LINES)
    (tmp_path / "folder").write_text("")
    gateway = FakeGateway()
    with pytest.raises(JournalError, match="Not a directory"):
        await run(requests, tmp_path / "folder", gateway)
    assert not gateway.prompts
