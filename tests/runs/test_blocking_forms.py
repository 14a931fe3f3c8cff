"""Batches without an event loop, and in a notebook, where one runs that nobody may wait on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    BatchRun,
    ConfigError,
    GatewayUnusableError,
    InputError,
    RunOutcome,
    RunProgress,
    run_batch_blocking,
)
from batch_gateway.runs.progress_bar import ProgressBar
from batch_gateway.testing import GatewayHandle
from tests.cli.commands import environment, read_lines, wait_until, write_batch
from tests.runs.held_client import Held


def chat(text: str = "Hi") -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}]}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield

    def none_is_left() -> bool:
        left = {one.name for one in threading.enumerate() if one not in before}
        # That of the simulated gateway ends with its fixture.
        return left <= {"simulated-gateway"}

    wait_until(none_is_left, "the threads have ended")


def test_a_file_is_run_and_a_bar_shows_how_far(
    tmp_path: Path, gateway: GatewayHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 30)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
    assert run.start_blocking().succeeded == 30
    assert "30 of 30 done" in capsys.readouterr().out
    assert run.start_blocking(progress=False).done_before == 30
    assert capsys.readouterr().out == ""


def test_a_function_is_told_how_far_it_is(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 5)
    told: list[RunProgress] = []
    threads: set[threading.Thread] = set()

    def show(progress: RunProgress) -> None:
        told.append(progress)
        threads.add(threading.current_thread())

    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
    run.start_blocking(progress=show)
    assert told[-1].done == 5
    assert threads == {threading.current_thread()}


def test_errors_are_those_of_the_async_form(tmp_path: Path, gateway: GatewayHandle) -> None:
    with pytest.raises(InputError, match="No such file"):
        BatchRun(tmp_path / "missing.jsonl", gateway=gateway.url).start_blocking()
    gateway.configure(api_key="right")
    with pytest.raises(GatewayUnusableError, match="401"):
        list(run_batch_blocking([chat()] * 20, gateway=gateway.url, api_key="wrong-key"))
    with pytest.raises(ConfigError, match="model: is missing"):
        list(run_batch_blocking(["Hi"], gateway=gateway.url))
    for wrong in ("requests.jsonl", 5, chat()):
        with pytest.raises(ConfigError, match="lines: must be an iterable"):
            run_batch_blocking(wrong, gateway=gateway.url)  # type: ignore[arg-type]


def test_without_rich_the_bar_says_what_it_needs(
    tmp_path: Path, gateway: GatewayHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 5)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
    with pytest.raises(ConfigError, match=r"progress: needs rich \(pip install rich\)"):
        run.start_blocking()
    assert run.start_blocking(progress=False).succeeded == 5


PROGRAM = """
import sys
from batch_gateway import BatchRun
run = BatchRun("requests.jsonl", output="out.jsonl", gateway=sys.argv[1], concurrency=2)
summary = run.start_blocking(progress=False)
print(summary.outcome, summary.left_to_send > 0)
"""


def test_an_interrupt_stops_it_and_the_summary_comes(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 8_000)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, gateway.url],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out = tmp_path / "out.jsonl"
        wait_until(lambda: out.exists() and out.stat().st_size > 5_000, "results are on disk")
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert said.split() == ["interrupted", "True"]
    run = BatchRun(batch, output=out, gateway=gateway.url)
    assert run.start_blocking(progress=False).outcome is RunOutcome.COMPLETED
    assert len(read_lines(out)) == 8_000


def test_lines_are_taken_on_the_callers_thread_and_results_come_as_they_end(
    gateway: GatewayHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    taken_on: set[threading.Thread] = set()

    def lines() -> Generator[dict[str, Any]]:
        for number in range(500):
            taken_on.add(threading.current_thread())
            yield chat(str(number))

    results = run_batch_blocking(lines(), gateway=gateway.url, progress=True)
    assert sorted(result.index for result in results if result.ok) == list(range(500))
    assert taken_on == {threading.current_thread()}
    assert "500 done" in capsys.readouterr().out


def test_an_async_iterable_and_a_path_do_too(tmp_path: Path, gateway: GatewayHandle) -> None:
    async def lines() -> AsyncIterator[dict[str, Any]]:
        for _ in range(5):
            yield chat()

    assert all(result.ok for result in run_batch_blocking(lines(), gateway=gateway.url))
    batch = write_batch(tmp_path / "requests.jsonl", 5)
    assert len(list(run_batch_blocking(batch, gateway=gateway.url))) == 5


def test_what_the_iterable_raises_is_raised_behind_the_results(gateway: GatewayHandle) -> None:
    def lines() -> Generator[dict[str, Any]]:
        yield from [chat()] * 3
        raise KeyError("mine")

    results = run_batch_blocking(lines(), gateway=gateway.url)
    assert [next(results).ok for _ in range(3)] == [True] * 3
    with pytest.raises(KeyError, match="mine"):
        next(results)


def test_leaving_the_loop_cancels_what_is_under_way_and_takes_few_lines() -> None:
    client, taken = Held(), list[int]()

    def lines() -> Generator[dict[str, Any]]:
        for number in range(100_000):
            taken.append(number)
            yield chat()

    for _ in run_batch_blocking(lines(), gateway=client):
        break
    assert client.cancelled == client.under_way - 1
    assert len(taken) < 1_000


def test_a_loop_that_runs_already_as_in_a_notebook_is_no_hindrance(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    async def cell() -> tuple[int, int]:
        results = run_batch_blocking([chat()] * 5, gateway=gateway.url)
        batch = write_batch(tmp_path / "requests.jsonl", 5)
        run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
        return sum(result.ok for result in results), run.start_blocking(False).succeeded

    assert asyncio.run(cell()) == (5, 5)


def test_a_second_interrupt_cuts_off_what_is_under_way_and_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second comes with what is told next, well within the ten seconds that one grants.
    monkeypatch.setattr("batch_gateway.runs.blocking_run.TELL_SECONDS", 0.0)

    def interrupt(progress: RunProgress) -> None:
        raise KeyboardInterrupt

    batch = write_batch(tmp_path / "requests.jsonl", 100)
    client = Held()
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=client, concurrency=10)
    with pytest.raises(KeyboardInterrupt):
        run.start_blocking(progress=interrupt)
    assert client.cancelled == max(0, client.under_way - 1)
    assert len(read_lines(tmp_path / "out.jsonl")) == min(1, client.under_way)


def test_what_a_display_raises_ends_the_run(tmp_path: Path) -> None:
    def broken(progress: RunProgress) -> None:
        raise ZeroDivisionError

    batch = write_batch(tmp_path / "requests.jsonl", 100)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=Held(), concurrency=10)
    with pytest.raises(ZeroDivisionError):
        run.start_blocking(progress=broken)


def test_an_interrupt_within_an_iterable_leaves_nothing_under_way() -> None:
    client = Held()

    def lines() -> Generator[dict[str, Any]]:
        yield from [chat()] * 70
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_batch_blocking(lines(), gateway=client))
    assert client.cancelled == client.under_way - 1


class Below:
    """What stands below a cell of a notebook."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, data: dict[str, str], **_: object) -> Below:
        self.shown.append(data["text/plain"])
        return self

    update = __call__


def test_in_a_notebook_the_bar_is_text_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    below, display = Below(), types.ModuleType("IPython.display")
    vars(display)["display"] = below
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with ProgressBar() as bar:
        bar.show(1, 4, "1 of 4", last=True)
        bar.show(4, 4, "4 of 4", last=True)
        bar.show(4, None, "4 done", last=True)
    assert below.shown == [
        "",
        "━" * 10 + "─" * 30 + " 1 of 4",
        "━" * 40 + " 4 of 4",
        "─" * 40 + " 4 done",
    ]
