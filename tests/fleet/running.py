"""A fleet of real processes on one machine: what is started, harmed and looked at in drills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import obstore
from obstore.store import ObjectStore

from batch_gateway.service.parts import BATCHES, parts_folder
from batch_gateway.storage.from_url import connect
from batch_gateway.testing import GatewayHandle
from tests.commands_to_kill import Command, begin_command, times_received
from tests.engine.batch_files import request, text_of
from tests.fleet.relay import Relay
from tests.peers.object_stores import S3_KEYS, Seaweed
from tests.peers.postgres import PostgresServer
from tests.peers.processes import free_port

__all__ = ["Fleet", "Member"]

PATIENCE = 240.0
"""Far beyond what any step takes, so that a fault ends the test; in seconds."""
LEASE = 3.0
SHARD_LINES = 100
_FINISHED = "(SELECT coalesce(sum(completed + failed), 0) FROM batches)"


@dataclass(frozen=True, eq=False)
class Member:
    """A process of the fleet."""

    role: str
    process: Command
    log: Path

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    @property
    def has_started(self) -> bool:
        return re.search(rb"^http://", self.log.read_bytes(), re.MULTILINE) is not None

    def signal(self, kind: signal.Signals) -> None:
        self.process.send_signal(kind)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """As Kubernetes does; the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@dataclass(eq=False)
class Fleet:
    """Processes of the API and workers over one database, one store and one gateway.

    Attributes:
        store: of files.
        code: the repository that processes are started from.
        ways: between the workers and the database; each has one of its own.
        registered: how often each request had been received whose result was registered, or
            stored by one that was killed, when that was first seen.
    """

    folder: Path
    database: PostgresServer
    gateway: GatewayHandle
    ways: Sequence[Relay]
    store: Seaweed
    code: Path = field(default_factory=Path.cwd)
    name: str = ""
    api: Member | None = None
    workers: dict[int, Member] = field(default_factory=dict[int, Member])
    registered: dict[str, int] = field(default_factory=dict[str, int])
    batches: dict[str, int] = field(default_factory=dict[str, int])
    _started: int = 0
    _seen: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._url = self.database.new_database_with_tables()
        self.name = self._url.rpartition("/")[2]
        # Servers beside each other have databases of the same names.
        self._prefix = f"{self.name}-of-{self.database.port}"
        self._api_port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._api_port}"

    def start_api(self) -> None:
        self.api = self._start("api", self._url, "--port", self._api_port)
        self._wait_for(self.api)

    def start_worker(self, number: int, clock_offset: float = 0.0) -> None:
        url = self._url.replace(str(self.database.port), str(self.ways[number].port))
        flags = ("--gateway", self.gateway.url, "--concurrency", 8, "--shutdown-timeout", "2s")
        self.workers[number] = self._start("worker", url, *flags, offset=clock_offset)

    def start_those_that_ended(self) -> None:
        """As Kubernetes does with what could not reach its database."""
        for number, worker in self.workers.items():
            if not worker.lives:
                self.start_worker(number)

    def started_worker(self, number: int) -> Member:
        self._wait_for(self.workers[number])
        return self.workers[number]

    def _start(self, role: str, url: str, *flags: object, offset: float = 0.0) -> Member:
        self._started += 1
        log = self.folder / f"{self._started}-{role}.log"
        log.touch()
        where = ["--database", url, "--data", self.folder / "data", "--observability-port", 0]
        where += ["--store", self.store.store_url(self._prefix)]
        process = begin_command(
            *(LEASE, SHARD_LINES, offset, "serve", "--role", role, *where, *flags),
            script=self.code / "tests" / "fleet" / "hurried.py",
            log=log,
            more=S3_KEYS
            | {"PYTHONPATH": os.pathsep.join([str(self.code / "src"), str(self.code)])},
        )
        return Member(role, process, log)

    def _wait_for(self, member: Member) -> None:
        end = time.monotonic() + PATIENCE
        while not member.has_started:
            assert member.lives, member.log.read_text()
            assert time.monotonic() < end, member.log.read_text()
            time.sleep(0.02)

    def submit(self, lines: int) -> str:
        """A batch of so many requests, every fifth of which the gateway refuses."""
        models = ("m", "m", "m", "m", "fault-status-400")
        data = text_of(request(f"id-{n}", model=models[n % 5]) for n in range(lines))
        with httpx2.Client(base_url=self.url, timeout=60) as http:
            form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", data)}}
            file = http.post("/v1/files", **form).raise_for_status().json()
            wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
            wanted["input_file_id"] = file["id"]
            batch_id = http.post("/v1/batches", json=wanted).raise_for_status().json()["id"]
        self.batches[batch_id] = lines
        return batch_id

    def look(self) -> dict[str, int]:
        """Remembers what is registered, and how often it had been received by then."""
        return self._remember(self.database.execute("SELECT name FROM parts", self.name).split())

    def look_after_a_kill(self) -> None:
        """As `look`, with what the killed had stored and not registered yet, which is adopted."""
        self.look()
        # What came from one that had lost its work by then, nobody adopts.
        asked = "SELECT batch_id, number, epoch FROM jobs WHERE kind = 'run'"
        shards = [row.split("|") for row in self.database.execute(asked, self.name).split()]
        now = tuple(f"{parts_folder(b, int(number))}/{int(e):06}-" for b, number, e in shards)
        paths = [one["path"] for page in obstore.list(self._files(), BATCHES) for one in page]
        self._remember([path for path in paths if path.startswith(now)])

    def _remember(self, names: Sequence[str]) -> dict[str, int]:
        """What is in these parts, and how often it had been received by now."""
        found = set[str]()
        for name in set(names) - self._seen:
            # Parts are put together to larger ones, and what a finished batch had goes.
            with contextlib.suppress(FileNotFoundError):
                found |= {json.loads(line)["id"] for line in self._read(name).splitlines()}
        self._seen.update(names)
        received = times_received(self.gateway)
        for request_id in found - self.registered.keys():
            self.registered[request_id] = received[request_id]
        return received

    def _read(self, name: str) -> bytes:
        return bytes(obstore.get(self._files(), name).bytes())

    def _files(self) -> ObjectStore:
        return connect(self.store.address(self._prefix), S3_KEYS)

    def finished_lines(self) -> int:
        """Of all batches, as registered."""
        return int(self.database.execute(f"SELECT {_FINISHED}", self.name))

    def lines_left(self) -> int:
        return sum(self.batches.values()) - self.finished_lines()

    def wait_for_lines(self, more: int) -> None:
        """Until so many lines more are done. It is the database that looks again and again."""
        wanted, end = self.finished_lines() + more, time.monotonic() + PATIENCE
        looks = f"""DO $$ BEGIN FOR look IN 1..500 LOOP
            EXIT WHEN {_FINISHED} >= {wanted}; PERFORM pg_sleep(0.02); END LOOP; END $$"""
        while self.finished_lines() < wanted:
            assert time.monotonic() < end, self.logs()
            self.database.execute(looks, self.name)

    def wait_for_ends(self) -> None:
        left, end = set(self.batches), time.monotonic() + PATIENCE
        with httpx2.Client(base_url=self.url, timeout=60) as http:
            while left:
                assert time.monotonic() < end, self.logs()
                for batch_id in sorted(left):
                    batch = http.get(f"/v1/batches/{batch_id}").json()
                    if batch["status"] in ("completed", "failed", "expired", "cancelled"):
                        left.remove(batch_id)
                time.sleep(0.1)

    def check(self) -> None:
        """Every batch is done, each line once, and nothing registered was sent again."""
        with httpx2.Client(base_url=self.url, timeout=60) as http:
            for batch_id, lines in self.batches.items():
                self._check_batch(http, batch_id, lines)
        received = times_received(self.gateway)
        again = {i: n for i, n in self.registered.items() if received[i] != n}
        assert not again, f"{len(again)} of {len(self.registered)} were sent again"
        assert "Traceback" not in self.logs(), self.logs()

    def _check_batch(self, http: httpx2.Client, batch_id: str, lines: int) -> None:
        batch = http.get(f"/v1/batches/{batch_id}").json()
        assert batch["status"] == "completed", batch
        good = _custom_ids(http, batch["output_file_id"])
        bad = _custom_ids(http, batch["error_file_id"])
        assert good + bad == Counter(f"id-{n}" for n in range(lines))
        counts = {"total": lines, "completed": good.total(), "failed": bad.total()}
        assert batch["request_counts"] == counts
        assert bad.total() == lines // 5

    def repeated(self) -> tuple[int, int]:
        """How many requests the gateway received more than once, and how many in all."""
        times = times_received(self.gateway)
        return sum(n > 1 for n in times.values()), len(times)

    def logs(self) -> str:
        logs = sorted(self.folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in logs)

    def end(self) -> None:
        for member in (self.api, *self.workers.values()):
            if member is not None and member.lives:
                member.signal(signal.SIGCONT)
                member.kill()


def _custom_ids(http: httpx2.Client, file_id: str | None) -> Counter[str]:
    if file_id is None:
        return Counter()
    content = http.get(f"/v1/files/{file_id}/content").raise_for_status().text
    return Counter(json.loads(line)["custom_id"] for line in content.splitlines())
