"""Keys, headers, TLS, sockets and proxies: they do their work, and no secret is shown."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import trustme

from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.cli.commands import Finished, batch_gateway, in_a_process, write_batch

SECRET = "sk-s3cret-key-that-nobody-may-see"


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return write_batch(tmp_path / "requests.jsonl", 3)


@pytest.fixture
def locked() -> Iterator[GatewayHandle]:
    with simulated_gateway(api_key=SECRET) as handle:
        yield handle


def shown(run: Finished) -> str:
    return run.stdout + run.stderr


def written(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*results*"))


def test_the_key_comes_from_a_file_a_variable_or_the_config(
    tmp_path: Path, batch: Path, locked: GatewayHandle
) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    (tmp_path / "gateway.yaml").write_text(f"inference_api_key: {SECRET}\n")
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--api-key-file", "key"], {}),
        (["--api-key-env", "MY_KEY"], {"MY_KEY": SECRET}),
        ([], {"BATCH_GATEWAY_API_KEY": SECRET}),
        (["--config", "gateway.yaml"], {}),
    ]
    for flags, variables in ways:
        run = batch_gateway(
            "run", batch, "--gateway", locked.url, "--fresh", *flags,
            cwd=tmp_path, variables=variables,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert SECRET not in shown(run) + written(tmp_path)


def test_the_flag_for_the_key_wins_over_the_variable(
    tmp_path: Path, batch: Path, locked: GatewayHandle
) -> None:
    variables = {"BATCH_GATEWAY_API_KEY": "wrong", "RIGHT": SECRET}
    run = batch_gateway(
        "run", batch, "--gateway", locked.url, "--api-key-env", "RIGHT",
        cwd=tmp_path, variables=variables,
    )  # fmt: skip
    assert run.returncode == 0


def test_a_refused_key_is_not_shown(tmp_path: Path, batch: Path, locked: GatewayHandle) -> None:
    wrong = "sk-wrong-but-still-secret"
    variables = {"BATCH_GATEWAY_API_KEY": wrong}
    run = batch_gateway(
        "run", batch, "--gateway", locked.url, "--json", cwd=tmp_path, variables=variables
    )
    assert run.returncode == 3
    assert wrong not in shown(run) + written(tmp_path)


def test_headers_reach_the_gateway_and_their_values_are_never_shown(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", ["tiny", "fault-status-500"])
    run = batch_gateway(
        "run", batch, "--gateway", gateway.url, "--header", f"X-Tenant={SECRET}",
        "--header=X-Other=a=b", "--max-retries", "0", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1
    headers = gateway.recent_requests()[0].headers
    assert (headers[b"x-tenant"], headers[b"x-other"]) == (SECRET.encode(), b"a=b")
    assert SECRET not in shown(run) + written(tmp_path)
    assert "--header X-Tenant=..." in run.stdout


def test_a_password_in_a_url_is_never_shown(tmp_path: Path, batch: Path) -> None:
    for flags in (
        ["--gateway", f"http://me:{SECRET}@g"],
        ["--gateway", "http://g", "--model-gateway", f"m=http://me:{SECRET}@g"],
        ["--gateway", "http://g", "--proxy", f"ftp://me:{SECRET}@p"],
    ):
        run = batch_gateway("run", batch, *flags, cwd=tmp_path)
        assert run.returncode == 2
        assert SECRET not in shown(run)


class Certificates:
    """A server certificate for localhost, a client certificate, and who signed them."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        server = authority.issue_cert("localhost")
        client = authority.issue_cert("someone@example.org")
        self.ca, self.cert, self.key = (folder / f"{name}.pem" for name in ("ca", "cert", "key"))
        authority.cert_pem.write_to_path(self.ca)
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.configure_cert(self.context)
        authority.configure_trust(self.context)

    def require_client(self) -> None:
        self.context.verify_mode = ssl.CERT_REQUIRED


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_trusts_the_given_authority_and_no_other(
    tmp_path: Path, batch: Path, certificates: Certificates
) -> None:
    with simulated_gateway(tls=certificates.context) as gateway:
        url = f"https://localhost:{gateway.port}"
        unknown = batch_gateway("run", batch, "--gateway", url, cwd=tmp_path)
        assert unknown.returncode == 3
        assert "certificate" in unknown.stderr
        known = batch_gateway(
            "run", batch, "--gateway", url, "--tls-ca-file", certificates.ca,
            "--tls-min-version", "1.3", cwd=tmp_path,
        )  # fmt: skip
        assert known.returncode == 0, known.stderr


def test_a_certificate_can_be_pinned_by_the_fingerprint_that_its_refusal_shows(
    tmp_path: Path, batch: Path, certificates: Certificates
) -> None:
    with simulated_gateway(tls=certificates.context) as gateway:
        command = ("run", batch, "--gateway", f"https://127.0.0.1:{gateway.port}")
        refused = batch_gateway(*command, cwd=tmp_path)
        assert refused.returncode == 3
        [pin] = set(re.findall(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", refused.stderr))
        wrong = batch_gateway(*command, "--tls-pin", "00" * 32, cwd=tmp_path)
        assert wrong.returncode == 3
        assert batch_gateway(*command, "--tls-pin", pin, cwd=tmp_path).returncode == 0


def test_the_name_to_find_in_the_certificate_can_be_given(
    tmp_path: Path, batch: Path, certificates: Certificates
) -> None:
    with simulated_gateway(tls=certificates.context) as gateway:
        run = batch_gateway(
            "run", batch, "--gateway", f"https://127.0.0.1:{gateway.port}",
            "--tls-ca-file", certificates.ca, "--tls-server-name", "localhost", cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_skipping_verification_works_and_warns_in_one_line(
    tmp_path: Path, batch: Path, certificates: Certificates
) -> None:
    with simulated_gateway(tls=certificates.context) as gateway:
        run = in_a_process(
            "run", batch, "--gateway", f"https://localhost:{gateway.port}",
            "--tls-insecure-skip-verify", cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0
    [warning] = [line for line in run.stderr.splitlines() if "skip_verify" in line]
    assert warning.startswith("Warning: ")


def test_a_client_certificate_is_shown_to_a_gateway_that_wants_one(
    tmp_path: Path, batch: Path
) -> None:
    certificates = Certificates(tmp_path)
    certificates.require_client()
    with simulated_gateway(tls=certificates.context) as gateway:
        command = (
            "run", batch, "--gateway", f"https://localhost:{gateway.port}",
            "--tls-ca-file", certificates.ca,
        )  # fmt: skip
        assert batch_gateway(*command, cwd=tmp_path).returncode == 3
        run = batch_gateway(
            *command, "--tls-client-cert-file", certificates.cert,
            "--tls-client-key-file", certificates.key, cwd=tmp_path,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr


def test_a_unix_socket_is_reached_directly(tmp_path: Path, batch: Path) -> None:
    with simulated_gateway(unix_socket=tmp_path / "gateway.sock"):
        run = batch_gateway(
            "run", batch, "--gateway", "http://localhost", "--unix-socket", "gateway.sock",
            cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("transport", "code"), [("native", 0), ("auto", 0), ("aiohttp", 2), ("curl", 2)]
)
def test_a_transport_may_still_be_named_if_it_is_the_one_that_there_is(
    tmp_path: Path, batch: Path, gateway: GatewayHandle, transport: str, code: int
) -> None:
    run = batch_gateway(
        "run", batch, "--gateway", gateway.url, "--transport", transport, cwd=tmp_path
    )
    assert run.returncode == code, run.stderr
    assert ("leave this setting out" in run.stderr) is bool(code)
    assert "--transport" not in batch_gateway("run", "--help", cwd=tmp_path).stdout


class Proxy(BaseHTTPRequestHandler):
    """Answers every request itself and notes what it was asked for."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(self.path)
        body = b'{"object": "chat.completion", "choices": [{"message": {}}]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("way", ["url", "env"])
def test_a_proxy_is_used_by_name_or_from_the_environment(
    tmp_path: Path, batch: Path, way: str
) -> None:
    Proxy.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        run = batch_gateway(
            "run", batch, "--gateway", "http://gateway.invalid:8000",
            "--proxy", url if way == "url" else "env",
            cwd=tmp_path, variables={"http_proxy": url} if way == "env" else {},
        )  # fmt: skip
        server.shutdown()
    assert run.returncode == 0, run.stderr
    assert Proxy.asked == ["http://gateway.invalid:8000/v1/chat/completions"] * 3
