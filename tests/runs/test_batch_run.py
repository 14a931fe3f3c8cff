"""A batch file as an object: what the command does, from a program."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    BatchRun,
    ConfigError,
    Figures,
    GatewayUnusableError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
    InputError,
    JournalError,
    RunOutcome,
    RunProgress,
)
from batch_gateway.testing import GatewayHandle
from tests.cli.commands import environment, in_a_process, read_lines, wait_until, write_batch

pytestmark = pytest.mark.anyio


def ids(path: Path) -> list[str]:
    return [line["custom_id"] for line in read_lines(path)]


async def test_a_file_is_run_and_the_summary_says_what_came_of_it(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 30)
    told: list[RunProgress] = []
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
    summary = await run.start(progress=told.append)
    assert summary.outcome is RunOutcome.COMPLETED
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (30, 0, 0)
    assert str(summary).startswith("completed after ")
    assert "30 of 30 succeeded" in str(summary)
    assert sorted(ids(run.output)) == sorted(ids(batch))
    assert (told[0].done, told[-1].done) == (0, 30)
    assert (told[0].figures, told[-1].figures) == (Figures(), run.figures)
    assert str(told[-1]).startswith("30 of 30 done, 0 in flight, ")
    assert run.figures.succeeded == 30
    assert run.figures.usage.output_tokens == 60


async def test_the_same_again_sends_nothing_and_the_command_agrees(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 10)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
    await run.start()
    gateway.clear_journal()
    again = await run.start()
    assert (again.succeeded, again.done_before, again.figures.finished) == (10, 10, 0)
    assert run.figures.succeeded == 0
    command = await asyncio.to_thread(
        in_a_process,
        *("run", batch, "-o", run.output, "--gateway", gateway.url),
        cwd=tmp_path,
    )
    assert "Nothing to send: all 10 requests succeeded" in command.stdout
    assert gateway.journal()["requests"] == {}


async def test_results_have_the_names_that_the_command_gives_them(
    tmp_path: Path, gateway: GatewayHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path / "mine.jsonl", 2)
    await BatchRun("mine.jsonl", gateway=gateway.url).start()
    assert len(ids(tmp_path / "mine.results.jsonl")) == 2
    assert BatchRun("mine.jsonl", gateway=gateway.url).errors == Path("mine.results.errors.jsonl")


PROGRAM = """
import asyncio, sys
from batch_gateway import BatchRun
asyncio.run(BatchRun("requests.jsonl", output="out.jsonl", gateway=sys.argv[1]).start())
"""


async def test_a_program_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 3_000)
    out = tmp_path / "out.jsonl"
    with subprocess.Popen(  # noqa: ASYNC220 - it is killed, and nothing runs beside it
        [sys.executable, "-c", PROGRAM, gateway.url], cwd=tmp_path, env=environment()
    ) as process:
        wait_until(lambda: out.exists() and out.stat().st_size > 20_000, "results are on disk")
        os.kill(process.pid, signal.SIGKILL)
    safe = [line for line in out.read_bytes().split(b"\n")[:-1] if line]
    assert 0 < len(safe) < 3_000
    summary = await BatchRun(batch, output=out, gateway=gateway.url).start()
    assert (summary.succeeded, summary.left_to_send) == (3_000, 0)
    assert summary.done_before >= len(safe)
    assert Counter(ids(out)) == Counter(ids(batch))
    kept = out.read_bytes()
    assert all(line in kept for line in safe)


class Held:
    """Holds every request until it is let go."""

    def __init__(self) -> None:
        self.began, self.go = asyncio.Event(), asyncio.Event()
        self.cancelled = 0

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        self.began.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return InferenceResponse(request_id=request.request_id, status_code=200, body=b"{}")


async def test_stop_lets_what_is_under_way_end_and_a_second_one_does_not(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 500)
    held = Held()
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=held, concurrency=10)
    running = asyncio.ensure_future(run.start())
    await held.began.wait()
    with pytest.raises(RuntimeError, match="has been started"):
        await run.start()
    run.stop()
    while not run.progress.stopping:
        await asyncio.sleep(0)
    held.go.set()
    summary = await running
    assert summary.outcome is RunOutcome.INTERRUPTED
    assert 0 < summary.succeeded < 500
    assert summary.left_to_send == 500 - summary.succeeded

    held.go, held.began = asyncio.Event(), asyncio.Event()
    running = asyncio.ensure_future(run.start())
    await held.began.wait()
    await asyncio.to_thread(run.stop)
    run.stop()
    again = await running
    assert again.outcome is RunOutcome.INTERRUPTED
    assert again.succeeded == summary.succeeded
    assert held.cancelled > 0


@pytest.mark.parametrize("fresh", [False, True])
async def test_stopped_before_it_starts_a_run_sends_nothing_and_loses_nothing(
    tmp_path: Path, gateway: GatewayHandle, fresh: bool
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 5)
    out = tmp_path / "out.jsonl"
    run = BatchRun(batch, output=out, gateway=gateway.url, fresh=fresh)
    run.stop()
    summary = await run.start()
    assert (summary.outcome, summary.left_to_send) == (RunOutcome.INTERRUPTED, 5)
    assert gateway.journal()["requests"] == {}
    assert (await run.start()).succeeded == 5
    before = out.read_bytes()
    run.stop()
    assert (await run.start()).succeeded == (0 if fresh else 5)
    assert out.read_bytes() == before


async def test_a_run_that_is_cancelled_keeps_its_results_and_its_files_are_free(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 2_000)
    out = tmp_path / "out.jsonl"
    run = BatchRun(batch, output=out, gateway=gateway.url)
    running = asyncio.ensure_future(run.start())
    while run.figures.succeeded < 50:
        await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    seen = run.figures.succeeded
    summary = await BatchRun(batch, output=out, gateway=gateway.url).start()
    assert (summary.succeeded, summary.done_before) == (2_000, seen)


async def test_two_runs_into_one_output_are_one_too_many(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 3)
    held = Held()
    first = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=held)
    running = asyncio.ensure_future(first.start())
    await held.began.wait()
    with pytest.raises(JournalError, match=r"out\.jsonl: .*in use|out\.jsonl: .*another"):
        await BatchRun(batch, output=tmp_path / "out.jsonl", gateway=held).start()
    held.go.set()
    assert (await running).succeeded == 3


async def test_what_is_wrong_with_the_input_is_said_by_line(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"custom_id": "a"}\n[]\n', "utf-8")
    with pytest.raises(InputError) as caught:
        await BatchRun(tmp_path / "bad.jsonl", gateway=gateway.url).start()
    assert any("line 2" in problem for problem in caught.value.problems)
    with pytest.raises(InputError, match=r"missing\.jsonl: No such file"):
        await BatchRun(tmp_path / "missing.jsonl", gateway=gateway.url).start()


async def test_a_gateway_that_cannot_be_reached_costs_no_earlier_result(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 3)
    out = tmp_path / "out.jsonl"
    await BatchRun(batch, output=out, gateway=gateway.url).start()
    before = out.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    run = BatchRun(batch, output=out, gateway=f"http://127.0.0.1:{port}", fresh=True)
    with pytest.raises(GatewayUnusableError) as caught:
        await run.start()
    assert str(caught.value).startswith("the gateway cannot be reached; nothing was sent\n  http")
    assert "refused" in caught.value.problems[0]
    assert out.read_bytes() == before


async def test_a_gateway_that_refuses_is_in_the_summary_in_the_words_of_the_command(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    gateway.configure(api_key="right")
    batch = write_batch(tmp_path / "requests.jsonl", 50)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url, api_key="wrong-key")
    summary = await run.start()
    assert (summary.outcome, summary.left_to_send) == (RunOutcome.GATEWAY_UNUSABLE, 50)
    assert summary.reason in str(summary)
    command = await asyncio.to_thread(
        in_a_process,
        *("run", batch, "-o", tmp_path / "o2.jsonl", "--gateway", gateway.url),
        cwd=tmp_path,
        variables={"BATCH_GATEWAY_API_KEY": "wrong-key"},
    )
    assert summary.reason in command.stdout
    assert "wrong-key" not in f"{summary}{summary!r}{run!r}{vars(run)}"


async def test_a_model_that_is_unknown_is_told_with_those_there_are(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    gateway.configure(models=("tinny", "other"))
    batch = write_batch(tmp_path / "requests.jsonl", 20)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=gateway.url)
    assert "did you mean tinny?" in (await run.start()).reason


async def test_a_client_that_is_given_stays_open(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 3)
    async with HTTPInferenceClient(gateway.url) as client:
        summary = await BatchRun(batch, output=tmp_path / "out.jsonl", gateway=client).start()
        assert summary.succeeded == 3
        assert (await client.generate({"model": "tiny", "prompt": "Hi"})).status_code == 200


async def test_without_a_gateway_there_is_the_simulator(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 3)
    summary = await BatchRun(batch, output=tmp_path / "o.jsonl", gateway="simulator").start()
    assert summary.succeeded == 3


async def test_single_models_have_gateways_of_their_own(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 3)
    for number, where in enumerate((gateway.url, HTTPInferenceClientConfig(gateway.url))):
        out = tmp_path / f"{number}.jsonl"
        summary = await BatchRun(batch, output=out, model_gateways={"tiny": where}).start()
        assert summary.succeeded == 3


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "gateway: is missing; give a URL"),
        ({"gateway": 5}, "gateway: must be a URL, an HTTPInferenceClientConfig, a client"),
        ({"gateway": HTTPInferenceClient}, "gateway: must be a URL"),
        ({"gateway": "htp://x"}, "gateway: .*is not a URL such as"),
        ({"gateway": "http://x", "model_gateways": {"m": 3}}, r"model_gateways\['m'\]: must be"),
        ({"gateway": "http://x", "model_gateways": {"m": "x y"}}, r"model_gateways\['m'\]: "),
        ({"gateway": "http://x", "concurrency": 0}, "concurrency: 0 is not a whole number"),
        ({"gateway": "http://x", "concurrency": "many"}, "concurrency: 'many' is not"),
        ({"gateway": "http://x", "concurrency": 10**7}, "concurrency: .*more open files"),
        ({"gateway": "http://x", "patience": "soon"}, "patience: 'soon' is not a duration"),
        ({"gateway": "http://x", "deadline": -1}, "deadline: -1 is not a duration"),
        ({"gateway": "http://x", "timeout": "x"}, "timeout: 'x' is not a duration"),
        ({"gateway": "http://x", "max_retries": -1}, "max_retries: -1 is not"),
        ({"gateway": "http://x", "max_failures": "all"}, "max_failures: 'all' is not a number"),
        ({"gateway": "http://x", "max_bytes_in_flight": 0}, "max_bytes_in_flight: 0 is not"),
        ({"gateway": "http://x", "order": "random"}, "order: 'random' is not one of prefix, file"),
        ({"gateway": "http://x", "fresh": True, "retry_failed": True}, "fresh: discards"),
        (
            {"gateway": HTTPInferenceClientConfig("http://x"), "api_key": "k"},
            "api_key: is for gateways given as URLs",
        ),
    ],
)
async def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{problem}"):
        BatchRun("requests.jsonl", **settings)


async def test_what_a_client_has_by_itself_is_not_given_beside_it(gateway: GatewayHandle) -> None:
    async with HTTPInferenceClient(gateway.url) as client:
        for name, value in {"api_key": "k", "isolate_models": True, "patience": 3}.items():
            with pytest.raises(ConfigError, match=f"{name}: does nothing beside a client"):
                BatchRun("requests.jsonl", gateway=client, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"gateway: .*blocking"):
            BatchRun("requests.jsonl", gateway=client.blocking())  # type: ignore[arg-type]


async def test_what_a_display_of_progress_raises_ends_the_run_and_is_raised(
    tmp_path: Path,
) -> None:
    def broken(progress: RunProgress) -> None:
        raise ZeroDivisionError

    batch = write_batch(tmp_path / "requests.jsonl", 3)
    run = BatchRun(batch, output=tmp_path / "out.jsonl", gateway=Held())
    with pytest.raises(ZeroDivisionError):
        await run.start(progress=broken)


async def test_conditions_that_hold_are_in_the_summary(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", ["tiny"] * 8 + ["fault-status-400"] * 2)
    asked = ["p50>30s", "max>=0", "failed>10%", "failed>50%"]
    run = BatchRun(batch, output=tmp_path / "o.jsonl", gateway=gateway.url, fail_if=asked)
    summary = await run.start()
    latency, failed = summary.failed_if
    assert latency.startswith("max>=0: it is ")
    assert failed == "failed>10%: it is 2 of 10, 20.000%"
    assert str(summary).endswith(f"\nfailed if {failed}")
    with pytest.raises(ConfigError, match="is no condition"):
        BatchRun(batch, gateway=gateway.url, fail_if=["p95"])
