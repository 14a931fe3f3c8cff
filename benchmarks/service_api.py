"""What the API of the service costs: `python -m benchmarks.service_api`.

One upload and one download of a gibibyte: megabytes a second, the server's peak memory and its CPU.
Then polls of one batch's status over a few connections that stay open: how many a second of the
server's CPU. The server has one core, and the client the other.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from benchmarks.environment import REPOSITORY
from benchmarks.machine import CLIENT_CORE, SERVER_CORE, cpu_seconds_of, describe, memory_mib, pin
from benchmarks.tables import Aim, print_aims, print_table, write_json
from tests.peers.object_stores import S3_KEYS, running_seaweed

_PIECE = (b'{"custom_id":"' + b"x" * 1008 + b'"}\n') * 256
_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Server:
    """The API's process."""

    host: str
    port: int
    pid: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def peak_mib(self) -> float:
        return memory_mib("VmHWM", self.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--seaweed", action="store_true", help="the file in SeaweedFS by S3")
    given = parser.parse_args()
    size = given.mib * 1024 * 1024
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="benchmark-api-"))
        bucket = stack.enter_context(running_seaweed(Path(folder))) if given.seaweed else None
        stores = [] if bucket is None else [bucket.store_url("api")]
        server = stack.enter_context(_running(folder, *stores))
        pin(CLIENT_CORE)
        idle = server.peak_mib()
        rows = [_timed("upload", server, size, lambda: _upload(server, size))]
        file_id = _file_id(server)
        rows.append(_timed("download", server, size, lambda: _download(server, file_id)))
        polls = _polls_per_cpu_second(server)
        peak = server.peak_mib()
    print_table("one file", ["", "MB/s", "server CPU s", "server's peak MiB"], rows)
    print(f"\nstatus polls a second of the server's CPU: {polls:,.0f}; idle {idle:,.0f} MiB")
    aims = [
        Aim("peak MiB of the server", peak, 120),
        Aim("status polls a second and a core", polls, 3000, at_least=True),
    ]
    print_aims(aims)
    write_json("service_api", {"idle_mib": idle, "peak_mib": peak, "polls": polls}, aims)


@contextlib.contextmanager
def _running(*places: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "benchmarks.servers.api_server", *places]
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *command],
        cwd=REPOSITORY,
        env=os.environ | S3_KEYS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = urlsplit(process.stdout.readline().strip())
        assert url.hostname is not None
        assert url.port is not None
        yield Server(url.hostname, url.port, process.pid)
        process.communicate()


def _timed(name: str, server: Server, size: int, action: Callable[[], None]) -> list[str]:
    began, cpu = time.monotonic(), cpu_seconds_of([server.pid])
    action()
    seconds = time.monotonic() - began
    used = cpu_seconds_of([server.pid]) - cpu
    return [name, f"{size / seconds / 1e6:,.0f}", f"{used:.1f}", f"{server.peak_mib():,.0f}"]


def _upload(server: Server, size: int) -> None:
    head = (
        b'--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--xyz\r\n'
        b'Content-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
    )
    tail = b"\r\n--xyz--\r\n"
    with contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Content-Type", "multipart/form-data; boundary=xyz")
        connection.putheader("Content-Length", str(len(head) + size + len(tail)))
        connection.endheaders(head)
        for start in range(0, size, len(_PIECE)):
            connection.send(_PIECE[: size - start])
        connection.send(tail)
        assert connection.getresponse().status == 200


def _file_id(server: Server) -> str:
    with contextlib.closing(server.connect()) as connection:
        connection.request("GET", "/v1/files")
        return json.loads(connection.getresponse().read())["data"][0]["id"]


def _download(server: Server, file_id: str) -> None:
    with contextlib.closing(server.connect()) as connection:
        connection.request("GET", f"/v1/files/{file_id}/content")
        answer = connection.getresponse()
        while answer.read(1024 * 1024):
            pass


def _polls_per_cpu_second(server: Server) -> float:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(8)]
        wanted = {"endpoint": "/v1/embeddings", "completion_window": "24h"}
        wanted["input_file_id"] = _file_id(server)
        connections[0].request("POST", "/v1/batches", json.dumps(wanted))
        path = f"/v1/batches/{json.loads(connections[0].getresponse().read())['id']}"
        count, cpu, end = 0, cpu_seconds_of([server.pid]), time.monotonic() + _POLL_SECONDS
        while time.monotonic() < end:
            for connection in connections:
                connection.request("GET", path)
            for connection in connections:
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
            count += len(connections)
        return count / (cpu_seconds_of([server.pid]) - cpu)


if __name__ == "__main__":
    main()
