"""A fleet on PostgreSQL and one place for files: `python -m benchmarks.service_fleet`.

Of one, two and four workers the seconds of a batch at a gateway that only takes its time, so that
two cores carry them all: each worker has so many requests in flight and no more. Then the time from
the death of a worker until others have all that it had, status polls a second of CPU, transactions
of idle workers, and small batches and a large one beside plain `run`. Nothing is pinned to a core.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import openai

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from benchmarks.environment import REPOSITORY
from benchmarks.machine import cpu_seconds_of, describe, memory_mib
from benchmarks.programs import ProgramResult
from benchmarks.service_batches import CONCURRENCY, Service, batch_file, polls_of, run_alone
from benchmarks.tables import Aim, print_aims, print_table, write_json
from tests.peers.object_stores import S3_KEYS, S3Server, running_seaweed
from tests.peers.postgres import PostgresServer, running_postgres

# So few that four workers and the gateway leave room on two cores.
_IN_FLIGHT = 32
_SLOW = SimulatorConfig(
    seats=10_000,
    prefill_tokens_per_second=1e9,
    prefill_chunk_tokens=1_000_000,
    time_per_token=0.1,
    load_growth=0.0,
    output_tokens=1,
    output_distribution="fixed",
)
# The same program, but small files are divided as large ones are; the lease is the usual one.
_HURRIED = REPOSITORY / "tests" / "fleet" / "hurried.py"
_LEASE_SECONDS = 30.0
_SHARDS = 16
_LIMIT_SECONDS = 3600.0
_STATISTICS_SECONDS, _IDLE_SECONDS = 11.0, 20.0


@dataclass
class Fleet:
    """Processes that share a database and a place for files.

    Attributes:
        shard_lines: of parts that are smaller than usual.
        pids: of the workers that were started and not killed.
    """

    server: PostgresServer
    database: str
    data: Path
    gateway: GatewayHandle
    in_flight: int
    store: str | None
    shard_lines: int | None
    processes: contextlib.ExitStack
    pids: list[int] = field(default_factory=list[int])

    def api(self) -> Service:
        sizes = ("--max-file-bytes", "4GiB", "--max-file-lines", "10000000")
        process, url = self._start("api", "--port", "0", *sizes)
        sdk = self.processes.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="any"))
        return Service(sdk, process.pid, 0.0)

    def add_workers(self, number: int) -> None:
        """Return when they have shown that they are there."""
        for _ in range(number):
            at_gateway = ("--gateway", self.gateway.url, "--concurrency", str(self.in_flight))
            process, _ = self._start("worker", *at_gateway)
            self.pids.append(process.pid)
        self.wait_for("SELECT count(*) FROM workers", str(len(self.pids)))

    def wait_for(self, question: str, answer: str) -> None:
        """Until that is the answer."""
        end = time.monotonic() + _LIMIT_SECONDS
        while self.ask(question) != answer:
            assert time.monotonic() < end, f"{question}: never {answer}"
            time.sleep(0.1)

    def ask(self, question: str) -> str:
        return self.server.execute(question, self.database.rpartition("/")[2])

    def _start(self, role: str, *more: str) -> tuple[subprocess.Popen[str], str]:
        program = ["-m", "batch_gateway"]
        if self.shard_lines is not None:
            program = [str(_HURRIED), str(_LEASE_SECONDS), str(self.shard_lines), "0"]
        place = ["--database", self.database, "--data", str(self.data / role)]
        if self.store is None:
            place[-1] = str(self.data)
        else:
            place += ["--store", self.store]
        ports = ["--observability-port", "0"]
        process = self.processes.enter_context(
            subprocess.Popen(
                [sys.executable, *program, "serve", "--role", role, *place, *ports, *more],
                cwd=REPOSITORY, env=os.environ | S3_KEYS | {"PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
        )  # fmt: skip
        self.processes.callback(process.send_signal, signal.SIGTERM)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, f"serve --role {role} did not start"
        return process, url


@dataclass
class Place:
    """Where fleets are: a PostgreSQL server, a folder, and a bucket if there is one."""

    server: PostgresServer
    folder: Path
    bucket: S3Server | None
    _numbers: Iterator[int] = field(default_factory=count)

    @contextlib.contextmanager
    def fleet(
        self, gateway: GatewayHandle, in_flight: int, shard_lines: int | None = None
    ) -> Iterator[Fleet]:
        name = f"fleet-{next(self._numbers)}"
        store = None if self.bucket is None else self.bucket.store_url(name)
        database = self.server.new_database()
        with contextlib.ExitStack() as stack:
            data = self.folder / name
            yield Fleet(self.server, database, data, gateway, in_flight, store, shard_lines, stack)

    def database_pids(self) -> list[int]:
        """Of PostgreSQL's processes that work for a fleet."""
        chosen = "SELECT pid FROM pg_stat_activity WHERE application_name = 'batch-gateway'"
        return [int(pid) for pid in self.server.execute(chosen).split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", choices=_PARTS, nargs="+", default=list(_PARTS))
    parser.add_argument("--lines", type=int, default=4_800, help="of the batch of 1, 2, 4 workers")
    parser.add_argument("--large", type=int, default=50_000, help="of the batch beside run")
    parser.add_argument("--small", type=int, default=100, help="batches of 100 lines beside run")
    parser.add_argument("--seaweed", action="store_true", help="files in SeaweedFS by S3")
    given = parser.parse_args()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    figures: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="benchmark-fleet-")))
        server = stack.enter_context(running_postgres("of-a-benchmark"))
        bucket = stack.enter_context(running_seaweed(folder)) if given.seaweed else None
        place = Place(server, folder, bucket)
        for name in given.only:
            found = _PARTS[name](place, given)
            print_table(name, ["", ""], [[what, f"{one:,.2f}"] for what, one in found.items()])
            figures |= found
    aims = [replace(aim, value=figures[aim.what]) for aim in _AIMS if aim.what in figures]
    print_aims(aims)
    write_json("service_fleet", figures, aims)


def _workers(place: Place, given: argparse.Namespace) -> dict[str, float]:
    """Seconds from the request for a batch to its end, by the number of workers."""
    figures: dict[str, float] = {}
    path = batch_file(place.folder, given.lines)
    with simulated_gateway(_SLOW) as gateway:
        for number in (1, 2, 4):
            with place.fleet(gateway, _IN_FLIGHT, max(1, given.lines // _SHARDS)) as fleet:
                api = fleet.api()
                fleet.add_workers(number)
                began = time.monotonic()
                assert api.wait(api.submit(path), every=0.1) == "completed"
                figures[f"seconds with {number}"] = time.monotonic() - began
    for number in (2, 4):
        ratio = figures["seconds with 1"] / figures[f"seconds with {number}"]
        figures[f"times as fast with {number}"] = ratio
    return figures


def _take_over(place: Place, given: argparse.Namespace) -> dict[str, float]:
    """From the death of one of two workers until the other has all of its parts."""
    path = batch_file(place.folder, given.lines)
    with (
        simulated_gateway(_SLOW.with_changes(latency_scale=20.0)) as gateway,
        place.fleet(gateway, _IN_FLIGHT, max(1, given.lines // _SHARDS)) as fleet,
    ):
        api = fleet.api()
        fleet.add_workers(1)
        mine = f"owner = '{fleet.ask('SELECT owner FROM workers')}' AND state = 'running'"
        fleet.add_workers(1)
        batch_id = api.submit(path)
        fleet.wait_for(f"SELECT count(*) >= 1 FROM jobs WHERE kind = 'run' AND {mine}", "t")
        fleet.wait_for("SELECT count(DISTINCT owner) FROM jobs WHERE state = 'running'", "2")
        os.kill(fleet.pids.pop(0), signal.SIGKILL)
        began = time.monotonic()
        fleet.wait_for(f"SELECT count(*) FROM jobs WHERE {mine}", "0")
        seconds = time.monotonic() - began
        api.sdk.batches.cancel(batch_id)
        api.wait(batch_id, every=0.1)
    return {"take-over, s": seconds}


def _polls(place: Place, _given: argparse.Namespace) -> dict[str, float]:
    """Of a batch under way: what the API takes, and what PostgreSQL takes beside it."""
    with (
        simulated_gateway(_SLOW.with_changes(latency_scale=200.0)) as gateway,
        place.fleet(gateway, _IN_FLIGHT) as fleet,
    ):
        api = fleet.api()
        fleet.add_workers(1)
        batch_id = api.submit(batch_file(place.folder, 100))
        while not gateway.journal()["in_flight"]:
            time.sleep(0.01)
        before = cpu_seconds_of(place.database_pids())
        polls, seconds = polls_of(api, batch_id)
        # A connection that is made for the first poll is there before the last.
        of_database = cpu_seconds_of(place.database_pids()) - before
        api.sdk.batches.cancel(batch_id)
        api.wait(batch_id, every=0.1)
    return {
        "status polls a CPU second of the API": polls / seconds,
        "status polls a CPU second of the API and PostgreSQL": polls / (seconds + of_database),
    }


def _idle(place: Place, _given: argparse.Namespace) -> dict[str, float]:
    """Transactions a second that each of four workers makes with nothing to do."""
    workers = 4
    with simulated_gateway() as gateway, place.fleet(gateway, _IN_FLIGHT) as fleet:
        fleet.add_workers(workers)
        counted = (
            "SELECT xact_commit + xact_rollback FROM pg_stat_database"
            " WHERE datname = current_database()"
        )
        # PostgreSQL's processes tell what they did after up to ten seconds.
        time.sleep(_STATISTICS_SECONDS)
        before, began = int(fleet.ask(counted)), time.monotonic()
        time.sleep(_IDLE_SECONDS)
        made = int(fleet.ask(counted)) - before
        return {
            "transactions a second of an idle worker": made / (time.monotonic() - began) / workers
        }


def _beside_run(place: Place, given: argparse.Namespace) -> dict[str, float]:
    """Seconds, and the CPU of the API and a worker, beside what `run` needs for the same files."""
    hundred, many = batch_file(place.folder, 100), given.small
    with simulated_gateway() as gateway:
        small = _through_fleet(place, gateway, [hundred] * many)
        # Each batch is a command of its own, as it is for who has no service.
        runs = [_run(place, gateway, hundred, number) for number in range(many)]
        figures = small.beside(f"{many} of 100 lines", runs)
        large = batch_file(place.folder, given.large)
        through = _through_fleet(place, gateway, [large])
        return figures | through.beside("a large one", [_run(place, gateway, large)])


@dataclass(frozen=True)
class _Cost:
    """Seconds of batches in a fleet, and the seconds of CPU of each who took part."""

    seconds: float
    api: float
    worker: float
    database: float
    worker_mib: float

    def beside(self, name: str, runs: Sequence[ProgramResult]) -> dict[str, float]:
        run_cpu = sum(run.cpu_s for run in runs)
        return {
            f"{name}, s": self.seconds,
            f"{name}, seconds beside run": self.seconds / sum(run.wall_s for run in runs),
            f"{name}, CPU beside run": (self.api + self.worker) / run_cpu,
            f"{name}, of it the worker": self.worker / run_cpu,
            f"{name}, of it the API": self.api / run_cpu,
            f"{name}, PostgreSQL beside it": self.database / run_cpu,
            f"{name}, peak MiB of the worker": self.worker_mib,
        }


def _through_fleet(place: Place, gateway: GatewayHandle, paths: list[Path]) -> _Cost:
    with place.fleet(gateway, CONCURRENCY) as fleet:
        api = fleet.api()
        fleet.add_workers(1)

        def cpu() -> tuple[float, float, float]:
            each = [api.pid], fleet.pids, place.database_pids()
            return cpu_seconds_of(each[0]), cpu_seconds_of(each[1]), cpu_seconds_of(each[2])

        before, began = cpu(), time.monotonic()
        for batch_id in [api.submit(path) for path in paths]:
            assert api.wait(batch_id, every=0.1) == "completed"
        seconds = time.monotonic() - began
        used = [after - one for after, one in zip(cpu(), before, strict=True)]
        return _Cost(seconds, *used, worker_mib=memory_mib("VmHWM", fleet.pids[0]))


def _run(place: Place, gateway: GatewayHandle, path: Path, number: int = 0) -> ProgramResult:
    output = place.folder / "out" / f"{gateway.port}-{number}-{path.name}"
    output.parent.mkdir(exist_ok=True)
    return run_alone(output, path, gateway, core=None)


_PARTS: Final[Mapping[str, Callable[[Place, argparse.Namespace], dict[str, float]]]] = {
    "workers": _workers,
    "take-over": _take_over,
    "polls": _polls,
    "idle": _idle,
    "beside-run": _beside_run,
}
_AIMS: Final = [
    Aim("times as fast with 2", 0, 1.8, at_least=True),
    Aim("take-over, s", 0, _LEASE_SECONDS + 5),
    Aim("status polls a CPU second of the API", 0, 1_500, at_least=True),
    Aim("transactions a second of an idle worker", 0, 5),
    Aim("a large one, CPU beside run", 0, 1.3),
]


if __name__ == "__main__":
    main()
