"""Through forward proxies that nobody here wrote: tinyproxy, and proxy.py, which speaks TLS too."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.errors import InferenceError
from batch_gateway.http.tls import TLSConfig
from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.http.behaviour.certificates import Certificates

from .debian import debian_package
from .installing import peer_environment
from .processes import accepts_connections, free_port, running_process

pytestmark = [pytest.mark.anyio, pytest.mark.peer("tinyproxy, proxy.py")]

PROXIES = pytest.mark.parametrize("name", ["tinyproxy", "proxy.py", "proxy.py over TLS"])
USER_INFO = "bob:hunter%32%32"
SMALL, LARGE = 10, 3_000_000


@contextlib.contextmanager
def running_proxy(name: str, folder: Path, port: int = 0) -> Iterator[str]:
    """Its address, once it takes connections. It wants the user bob and the password hunter22."""
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    command = _tinyproxy(folder, port) if name == "tinyproxy" else _proxy_py(name, folder, port)
    log = folder / f"{port}.log"
    with running_process(command, is_ready=lambda: accepts_connections(port), log=log):
        yield f"127.0.0.1:{port}"


def _tinyproxy(folder: Path, port: int) -> list[str]:
    binary = debian_package("tinyproxy-bin") / "usr/bin/tinyproxy"
    settings = folder / "tinyproxy.conf"
    settings.write_text(
        f"Port {port}\nListen 127.0.0.1\nBasicAuth bob hunter22\nTimeout 60\nLogLevel Notice\n"
    )
    return [str(binary), "-d", "-c", str(settings)]


def _proxy_py(name: str, folder: Path, port: int) -> list[str]:
    python = peer_environment("proxy-py", ["proxy.py"])
    command = [
        str(python), "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port),
        "--basic-auth", "bob:hunter22", "--num-workers", "1", "--num-acceptors", "1",
        "--data-dir", str(folder),
    ]  # fmt: skip
    if name.endswith("TLS"):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        command += ["--key-file", str(folder / "key.pem"), "--cert-file", str(folder / "cert.pem")]
    return command


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["http", "https"])
def gateway(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[GatewayHandle]:
    tls = certificates.server() if request.param == "https" else None
    with simulated_gateway(SimulatorConfig.instant(), tls=tls) as running:
        yield running


@contextlib.contextmanager
def configured(
    name: str,
    url: str,
    folder: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    user_info: str = USER_INFO,
) -> Iterator[HTTPInferenceClientConfig]:
    with running_proxy(name, folder) as address:
        scheme = "http"
        if name.endswith("TLS"):
            # The gateway's authority is told, the proxy's is one of the system's.
            monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
            scheme = "https"
        yield HTTPInferenceClientConfig(
            url,
            proxy=f"{scheme}://{user_info}{'@' if user_info else ''}{address}",
            tls=TLSConfig(ca_file=certificates.ca_file),
            retry=None,
        )


def request(size: int) -> InferenceRequest:
    return InferenceRequest(params={"model": "m", "prompt": "x" * size, "max_tokens": 4})


@PROXIES
async def test_requests_of_any_size_go_through(
    name: str,
    gateway: GatewayHandle,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with configured(name, gateway.url, tmp_path, certificates, monkeypatch) as config:
        async with HTTPInferenceClient(config) as client:
            await client.connect()
            for size in (SMALL, LARGE, SMALL):
                assert (await client.generate(request(size))).status_code == 200
            assert [chunk async for chunk in client.stream(request(SMALL))]
            assert await client.models()


@PROXIES
@pytest.mark.parametrize("user_info", ["", "bob:wrong-password"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_proxy_that_wants_other_credentials_is_told_as_that(
    name: str,
    user_info: str,
    size: int,
    gateway: GatewayHandle,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path
    with configured(name, gateway.url, folder, certificates, monkeypatch, user_info) as config:
        async with HTTPInferenceClient(config) as client:
            for _ in range(2):
                with pytest.raises(InferenceError) as caught:
                    await client.generate(request(size))
                error = caught.value
                assert not error.is_retryable
                # tinyproxy says 401 of a wrong password.
                assert error.status_code in (401, 407)
                assert "the proxy for 127.0.0.1" in error.message
                assert "wrong-password" not in error.message
                assert "<" not in error.message


@PROXIES
async def test_a_gateway_that_the_proxy_does_not_reach_is_tried_again_later(
    name: str,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for scheme in ("http", "https"):
        url, folder = f"{scheme}://127.0.0.1:{free_port()}", tmp_path / scheme
        with configured(name, url, folder, certificates, monkeypatch) as config:
            async with HTTPInferenceClient(config) as client:
                for size in (SMALL, LARGE, SMALL):
                    with pytest.raises(InferenceError) as caught:
                        await client.generate(request(size))
                    assert caught.value.is_retryable
                    assert "the proxy for 127.0.0.1" in caught.value.message


@pytest.mark.parametrize("name", ["tinyproxy", "proxy.py"])
def test_a_proxy_that_is_restarted_costs_a_run_no_line(
    name: str, gateway: GatewayHandle, tmp_path: Path, certificates: Certificates
) -> None:
    lines = [
        f'{{"custom_id": "{n}", "method": "POST", "url": "/v1/completions",'
        f' "body": {{"model": "m", "prompt": "Hi {n}", "max_tokens": 1}}}}\n'
        for n in range(2_000)
    ]
    (tmp_path / "requests.jsonl").write_text("".join(lines))
    with contextlib.ExitStack() as first:
        address = first.enter_context(running_proxy(name, tmp_path / "proxy"))
        port = int(address.rpartition(":")[2])
        command = [
            sys.executable, "-m", "batch_gateway", "run", "requests.jsonl", "-o", "results.jsonl",
            "--gateway", gateway.url, "--proxy", f"http://{USER_INFO}@{address}",
            "--tls-ca-file", str(certificates.ca_file), "--quiet", "--concurrency", "8",
        ]  # fmt: skip
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as run:
            try:
                results = tmp_path / "results.jsonl"
                while not (results.exists() and results.stat().st_size):
                    assert run.poll() is None
                    time.sleep(0.01)
                first.close()
                with running_proxy(name, tmp_path / "proxy", port):
                    said = run.communicate(timeout=100)[0].decode()
            finally:
                run.kill()
    assert run.returncode == 0, said
    assert len(results.read_text().splitlines()) == len(lines)
