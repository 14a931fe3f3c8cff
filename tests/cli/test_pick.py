"""`batch-gateway pick`: one question to an endpoint picker, shown; and runs through one."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from batch_gateway.testing import PickerConfig, PoolHandle, SimulatorConfig, simulated_pool
from tests.cli.commands import Finished, batch_gateway, read_lines, write_batch
from tests.picker.scripted_picker import Talk, scripted_picker


@pytest.fixture(scope="module")
def pool() -> Iterator[PoolHandle]:
    picker = PickerConfig(fallbacks=1, rewrites={"asked": "tuned"})
    with simulated_pool(pods=2, config=SimulatorConfig.instant(), picker=picker) as running:
        yield running


def pick(pool: PoolHandle, cwd: Path, *arguments: str) -> Finished:
    return batch_gateway("pick", "--gateway", pool.url, *arguments, cwd=cwd)


def test_the_choice_is_shown_and_nothing_is_sent_to_a_pod(pool: PoolHandle, tmp_path: Path) -> None:
    done = pick(pool, tmp_path, "--model", "asked", "--prompt", "Why is the sky blue?")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    pod, other = lines[0].split()[1], lines[1].split()[1]
    assert {pod, other} == set(pool.addresses)
    assert lines[2] == "Request    POST /v1/chat/completions"
    assert f"  x-gateway-destination-endpoint: {pod},{other}" in lines
    assert any("rewritten by the picker" in line for line in lines)
    assert '    "model": "tuned",' in lines
    assert '        "content": "Why is the sky blue?"' in lines
    assert all(pod.journal()["received"] == 0 for pod in pool.pods)


def test_a_line_of_a_batch_may_be_asked_about_and_all_of_it_printed_as_json(
    pool: PoolHandle, tmp_path: Path
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", ["tiny", "other"])
    more = (
        "--header",
        "x-tenant=me",
        "--header",
        "x-api-key=k3y",
        "--inference-objective",
        "batch",
    )
    done = pick(pool, tmp_path, "--request-file", str(batch), "--line", "2", "--json", *more)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["headers"]["x-tenant"] == "me"
    assert found["headers"]["x-gateway-inference-objective"] == "batch"
    assert found["headers_set"].items() <= found["headers"].items()
    assert "k3y" not in done.stdout
    assert found["endpoint"] in pool.addresses
    assert len(found["fallbacks"]) == 1
    assert found["path"] == "/v1/chat/completions"
    assert not found["body_rewritten"]
    assert found["body"]["model"] == "other"


def test_a_refusal_is_shown_with_what_it_means(pool: PoolHandle, tmp_path: Path) -> None:
    arguments = ("--model", "m", "--endpoint-subset", "10.0.0.1:80")
    done = pick(pool, tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stdout.startswith("Refused    HTTP 503: ")
    assert "Meaning    no pod is ready, or none is in the subset" in done.stdout
    refused = json.loads(pick(pool, tmp_path, *arguments, "--json").stdout)["refused"]
    assert refused["dropped_reason"] == "rejected-no-endpoints"
    assert refused["retryable"]


def test_secrets_are_not_shown(pool: PoolHandle, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret-secret\n")
    secret = ("--api-key-file", "key", "--prompt", "say sk-secret-secret")
    for form in ((), ("--json",)):
        done = pick(pool, tmp_path, "--model", "m", *secret, *form)
        assert done.returncode == 0, done.stderr
        assert "sk-secret-secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "what is to be asked for? Give --model NAME"),
        (("--model", "m", "--request-file", "in.jsonl"), "give either"),
        (("--model", "m", "--line", "3"), "--line does nothing without --request-file"),
        (("--request-file", "none.jsonl"), "none.jsonl cannot be read: No such file"),
        (("--request-file", "in.jsonl", "--line", "9"), "in.jsonl has no line 9"),
        (("--request-file", "bad.jsonl"), "bad.jsonl:1 is not a line of a batch"),
        (("--model", "m", "--endpoint-subset", "pod"), "--endpoint-subset: 'pod' is not of the"),
        (("--model", "m", "--proxy", "env"), "No such option"),
    ],
)
def test_what_cannot_be_asked_is_said(
    pool: PoolHandle, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "in.jsonl").write_text('{"custom_id":"a"}\n')
    (tmp_path / "bad.jsonl").write_text("no json\n")
    done = pick(pool, tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_proxy_is_told_from_a_picker(tmp_path: Path) -> None:
    for url in ("http://gateway:8000", "simulator"):
        done = batch_gateway("pick", "--gateway", url, "--model", "m", cwd=tmp_path)
        assert done.returncode == 2
        assert f"{url} is no endpoint picker" in done.stderr
        assert "simulate --pods 4 --picker-port 9002" in done.stderr


def test_a_picker_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"grpc://127.0.0.1:{server.getsockname()[1]}"
    done = batch_gateway("pick", "--gateway", url, "--model", "m", cwd=tmp_path)
    assert done.returncode == 3
    assert f"{url}: cannot connect to" in done.stderr


def test_a_batch_runs_through_a_picker_from_flags_and_from_a_file(
    pool: PoolHandle, tmp_path: Path
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 20)
    pool.clear_decisions()
    done = batch_gateway("run", batch, "--gateway", pool.url, "-o", "a.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pool.decisions()) == 20
    only = pool.addresses[1]
    (tmp_path / "config.yaml").write_text(
        f"gateway: {pool.url}\npick_timeout: 30s\nendpoint_subset: [{only!r}]\n"
    )
    shown = ("-o", "b.jsonl", "--report", "page.html")
    done = batch_gateway("run", batch, "--config", "config.yaml", *shown, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    assert re.search(rf"endpoint subset(<[^>]*>|\s)*{re.escape(only)}<", page)
    answers = read_lines(tmp_path / "b.jsonl")
    assert len(answers) == 20
    assert pool.pods[1].journal()["received"] >= 20


def test_one_model_may_go_through_a_picker(pool: PoolHandle, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", ["picked"] * 2)
    done = batch_gateway(
        "run", batch, "--model-gateway", f"picked={pool.url}", "-o", "a.jsonl", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_a_run_does_not_begin_with_a_picker_that_is_not_serving(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 1)
    with simulated_pool(pods=1, health_port=0) as pool:
        arguments = ("run", batch, "--gateway", pool.url)
        elsewhere = ("--picker-health", f"grpc://127.0.0.1:{pool.health_port}")
        pool.drain_picker()
        done = batch_gateway(*arguments, *elsewhere, cwd=tmp_path)
        assert done.returncode == 3
        assert f"127.0.0.1:{pool.health_port} says that it is not serving" in done.stderr
        pool.start_picker()
        assert batch_gateway(*arguments, *elsewhere, cwd=tmp_path).returncode == 0


def test_a_run_does_not_begin_without_its_picker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    batch = write_batch(tmp_path / "in.jsonl", 1)
    url = f"grpc://127.0.0.1:{port}"
    done = batch_gateway("run", batch, "--gateway", url, cwd=tmp_path)
    assert done.returncode == 3
    assert f"{url}: cannot connect to 127.0.0.1:{port}: connection refused" in done.stderr


@pytest.mark.anyio
async def test_a_key_that_the_picker_quotes_is_not_shown(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        headers = await talk.question()
        said = f"unknown token {headers['authorization']}"
        await talk.context.abort(grpc.StatusCode.UNAUTHENTICATED, said)

    (tmp_path / "key").write_text("sk-0123456789")
    async with scripted_picker(script) as picker:
        arguments = ("pick", "--gateway", picker.url, "--model", "m", "--api-key-file", "key")
        done = await asyncio.to_thread(batch_gateway, *arguments, cwd=tmp_path)
    assert done.returncode == 3
    assert "UNAUTHENTICATED: unknown token Bearer [redacted]" in done.stderr
