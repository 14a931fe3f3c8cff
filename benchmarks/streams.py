"""What reading streamed answers costs: `python -m benchmarks.streams [--quick]`.

CPU of the client process for each event of an answer, at several lengths of answers, numbers of
events in a read, plain and over TLS, beside what people would use otherwise; and what each of two
thousand streams takes of memory while they are under way. Two hundred answers
go forward in step, so that each read of a client brings what one write of the server was (see
`benchmarks.servers.event_server`). Every measurement is a process of its own; rounds are
interleaved and medians shown. Client and server take turns on one core, see
`benchmarks.machine.take_turns`; with `--apart` each has its own.

All of it takes about ten minutes on a quiet machine. The openai SDK is measured once, with a
quarter of the streams, as it would take as long as all the others, which are measured twice. No
measurement may take more than two minutes. `--quick` takes two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.contenders.contract import Target
from benchmarks.environment import REPOSITORY, child_environment, contenders_python
from benchmarks.machine import SERVER_CORE, describe, pin, take_turns
from benchmarks.servers.nginx import write_certificates
from benchmarks.stream_load import StreamResult, StreamSpec
from benchmarks.tables import Aim, print_aims, print_table, write_json

_LIMIT_S = 120.0
_BASELINE = "aiohttp + msgspec"
_UPSTREAM = "batch-gateway, stream_upstream"
_TYPED = "batch-gateway, stream()"
_OPENAI = "openai SDK"
_CLIENTS = {
    "floor: asyncio.Protocol + httptools": "event_floor:open_client",
    _UPSTREAM: "event_streams:open_generate",
    _TYPED: "event_streams:open_stream",
    _BASELINE: "event_streams:open_aiohttp",
    "pyreqwest + msgspec": "event_streams:open_pyreqwest",
    _OPENAI: "event_streams:open_openai",
}
_AIMS = {_UPSTREAM: 0.45, _TYPED: 0.8}
_MOST_KIB = 30
_IN_FLIGHT, _MANY_IN_FLIGHT = 200, 2_000
_COUNTED_EVENTS = 60_000


@dataclass(frozen=True)
class Cell:
    """One set of circumstances: how long answers are, and how they come."""

    events: int
    a_read: int
    tls: bool = False
    many: bool = False

    def __str__(self) -> str:
        way = "TLS" if self.tls else "plain"
        many = f", {_MANY_IN_FLIGHT:,} streams" if self.many else ""
        return f"{self.events:,} events an answer, {self.a_read} a read, {way}{many}"

    @property
    def in_flight(self) -> int:
        if self.many:
            return _MANY_IN_FLIGHT
        return _IN_FLIGHT if self.events < 1_000 else _IN_FLIGHT // 4

    def streams_of(self, client: str) -> int:
        """How many of them a client has."""
        return self.in_flight // 4 if client == _OPENAI else self.in_flight

    @property
    def answers(self) -> int:
        return 0 if self.many else max(1, _COUNTED_EVENTS // (self.events * self.in_flight))


_ALL = [Cell(*one) for one in itertools.product((16, 300, 2_000), (1, 4, 64), (False, True))]
_QUICK = [Cell(300, 1), Cell(300, 4), Cell(300, 64)]
_MANY = Cell(300, 1, many=True)

__all__ = ["Server", "running_server"]

Results = dict[str, list[StreamResult]]


@dataclass(frozen=True)
class Server:
    plain_port: int
    tls_port: int
    control_port: int
    ca_file: Path
    pid: int

    def target(self, cell: Cell, client: str) -> Target:
        way, port = ("https", self.tls_port) if cell.tls else ("http", self.plain_port)
        url = f"{way}://127.0.0.1:{port}/{cell.events}/{cell.a_read}"
        return Target(url, cell.streams_of(client), str(self.ca_file) if cell.tls else None)


def main() -> None:
    options = _parse_options()
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    cells = [cell for cell in (_QUICK if options.quick else _ALL) if options.cell in str(cell)]
    measured: dict[Cell, Results] = {cell: {} for cell in cells}
    many: Results = {}
    with running_server(python, apart=options.apart) as server:
        for number in range(options.rounds):
            for cell in cells:
                _measure_cell(python, server, cell, measured[cell], number, options)
        if not options.cell:
            _measure_cell(python, server, _MANY, many, 0, options)
    for cell, results in measured.items():
        _print_cell(cell, results)
    rows = [[name, f"{_grown_kib(_MANY, name, found):.1f}"] for name, found in many.items()]
    if rows:
        print_table(str(_MANY), ["client", "KiB a stream"], rows)
    aims = [*_aims(measured), *_memory_aims(many)]
    print_aims(aims)
    if not (options.only or options.cell):
        figures = [
            {"cell": str(cell), "clients": msgspec.to_builtins(found)}
            for cell, found in measured.items()
        ]
        memory = {name: _grown_kib(_MANY, name, found) for name, found in many.items()}
        write_json("streams", {"cells": figures, "memory_kib": memory}, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="answers of 300 events, plain")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions")
    parser.add_argument("--apart", action="store_true", help="client and server on a core each")
    parser.add_argument("--only", default="", help="clients whose name contains this")
    parser.add_argument("--cell", default="", help="circumstances whose name contains this")
    return parser.parse_args()


@contextmanager
def running_server(python: Path, *, apart: bool) -> Iterator[Server]:
    with TemporaryDirectory(prefix="benchmark-events-") as name:
        folder = Path(name)
        write_certificates(python, folder)
        process = subprocess.Popen(
            [str(python), "-m", "benchmarks.servers.event_server", name],
            cwd=REPOSITORY,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: pin(SERVER_CORE) if apart else take_turns(),  # noqa: PLW1509
        )
        try:
            assert process.stdout is not None
            plain, tls, control = map(int, process.stdout.readline().split())
            yield Server(plain, tls, control, folder / "ca.pem", process.pid)
        finally:
            process.terminate()
            process.wait(10)


def _measure_cell(
    python: Path,
    server: Server,
    cell: Cell,
    results: Results,
    number: int,
    options: argparse.Namespace,
) -> None:
    for name, opener in _CLIENTS.items():
        # It takes a minute for what the others do in seconds.
        too_slow = name == _OPENAI and (number > 0 or cell.many)
        if too_slow or not any(one in name for one in options.only.split(",")):
            continue
        target = server.target(cell, name)
        found = _measure(python, server, cell, opener, target, apart=options.apart)
        results.setdefault(name, []).append(found)


def _measure(
    python: Path, server: Server, cell: Cell, opener: str, target: Target, *, apart: bool
) -> StreamResult:
    spec = StreamSpec(
        opener=opener,
        target=target,
        control_port=server.control_port,
        events=cell.events,
        answers=cell.answers,
        apart=apart,
    )
    done = subprocess.run(
        [str(python), "-m", "benchmarks.stream_load", msgspec.json.encode(spec).decode()],
        cwd=REPOSITORY,
        env=child_environment(REPOSITORY / "src"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{opener} failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
    return msgspec.json.decode(done.stdout, type=StreamResult)


def _ratio(results: Results, name: str) -> float | None:
    """The median of the ratios of a round, whose measurements are next to each other."""
    if name not in results or _BASELINE not in results:
        return None
    pairs = zip(results[name], results[_BASELINE], strict=False)
    return median(one.cpu_us / base.cpu_us for one, base in pairs)


def _print_cell(cell: Cell, results: Results) -> None:
    rows: list[list[str]] = []
    for name, found in results.items():
        ratio = _ratio(results, name)
        cpu = median(one.cpu_us for one in found)
        grown = f"{_grown_kib(cell, name, found):,.0f}"
        rows.append([name, f"{cpu:.2f}", "" if ratio is None else f"{ratio:.2f}", grown])
    columns = ["client", "CPU µs an event", "CPU / aiohttp", "KiB a stream"]
    print_table(str(cell), columns, rows)


def _grown_kib(cell: Cell, client: str, found: list[StreamResult]) -> float:
    grown = median(one.peak_mib - one.before_mib for one in found)
    return grown * 1024 / cell.streams_of(client)


def _memory_aims(many: Results) -> list[Aim]:
    return [
        Aim(f"{name}, KiB a stream, {_MANY}", _grown_kib(_MANY, name, many[name]), _MOST_KIB)
        for name in _AIMS
        if name in many
    ]


def _aims(measured: dict[Cell, Results]) -> list[Aim]:
    aims: list[Aim] = []
    for cell, results in measured.items():
        for name, bound in _AIMS.items():
            ratio = _ratio(results, name)
            if ratio is not None:
                aims.append(Aim(f"{name}, CPU beside aiohttp's, {cell}", ratio, bound))
    return aims


if __name__ == "__main__":
    main()
