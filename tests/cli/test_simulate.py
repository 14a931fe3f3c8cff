"""`batch-gateway simulate`: the simulated gateway as a server."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from batch_gateway import (
    AuthenticationError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
    ServerError,
)
from tests.cli.commands import batch_gateway, started

CHAT = {"model": "llama-3", "messages": [{"role": "user", "content": "Hello!"}]}


def ask(url: str, **settings: object) -> InferenceResponse:
    async def once() -> InferenceResponse:
        config = HTTPInferenceClientConfig(url, retry=None, **settings)  # pyright: ignore
        async with HTTPInferenceClient(config) as client:
            return await client.generate(InferenceRequest(params=CHAT))

    return asyncio.run(once())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_url_answers_and_stops_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    with started("simulate", "--port", "0", "--instant", cwd=tmp_path) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert ask(url).json()["choices"][0]["message"]["content"]
        server.send_signal(number)
        _, stderr = server.communicate(timeout=20)
    assert server.returncode == 0
    assert stderr.endswith("Stopped.\n")
    assert "Traceback" not in stderr


def test_flags_shape_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-right\n")
    command = (
        "simulate", "--port", "0", "--api-key-file", "key", "--model", "llama-3",
        "--seats", "2", "--queue-limit", "10", "--queue-ttl", "5s", "--latency-scale", "0",
        "--output-tokens", "3", "--fault", "status-503=1",
    )  # fmt: skip
    with started(*command, cwd=tmp_path) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with pytest.raises(AuthenticationError):
            ask(url)
        with pytest.raises(ServerError) as caught:
            ask(url, api_key="sk-right")
    assert caught.value.status_code == 503


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--fault", "nonsense=0.1"], "--fault: there is no fault 'nonsense'"),
        (["--fault", "status-503"], "--fault: 'status-503' is not NAME=RATE"),
        (["--fault", "status-503=2"], "add up to more than 1"),
        (["--seats", "0"], "--seats: 0 is not a whole number of at least 1"),
        (["--objective", "batch=low"], "--objective: a priority must be a whole number"),
        (["--api-key-file", "nowhere"], "--api-key-file: nowhere: No such file"),
        (["--tls-certificate", "nowhere"], "--tls-certificate: nowhere is not a file"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1:8000"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, flags: list[str], expected: str) -> None:
    run = batch_gateway("simulate", *flags, cwd=tmp_path)
    assert run.returncode == 2
    assert expected in run.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = batch_gateway("simulate", "--port", str(port), cwd=tmp_path)
    assert run.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: " in run.stderr
    assert "in use" in run.stderr


def test_several_pods_stand_behind_a_picker(tmp_path: Path) -> None:
    command = ("simulate", "--pods", "2", "--port", "0", "--picker-port", "0", "--instant")
    with started(*command, cwd=tmp_path) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        picker = server.stdout.readline().strip()
        assert picker.startswith("grpc://127.0.0.1:")
        pods = [server.stderr.readline().split()[-1] for _ in range(2)]
        answers = [ask(url) for url in pods]
        assert [a.headers["x-inference-pod"] for a in answers] == ["pod-0", "pod-1"]
        server.send_signal(signal.SIGINT)
        _, stderr = server.communicate(timeout=20)
    assert server.returncode == 0
    assert stderr.endswith("Stopped.\n")
    assert "Traceback" not in stderr


def test_a_pickers_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = batch_gateway(
            "simulate", "--pods", "2", "--port", "0", "--picker-port", port, cwd=tmp_path
        )
    assert run.returncode == 2
    assert "cannot listen: " in run.stderr
    assert "in use" in run.stderr
    assert port in run.stderr
