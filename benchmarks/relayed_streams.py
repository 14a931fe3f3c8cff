"""What a picker's part in streamed answers costs: `python -m benchmarks.relayed_streams`.

The same answers as in `benchmarks.streams`, read by `stream_upstream` and by `stream()`, once
straight from the pod and once by way of the picker, to which every piece of the answer is
reported and which hands each back. All take turns on one core, see `benchmarks.machine.take_turns`;
only the client's CPU is counted. Every measurement is a process of its own; the two ways are
measured one after the other, and each such pair gives one ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.contenders.contract import Target
from benchmarks.environment import REPOSITORY, child_environment, contenders_python
from benchmarks.machine import describe, take_turns
from benchmarks.servers.pool import running_picker, threads_of
from benchmarks.stream_load import StreamResult, StreamSpec
from benchmarks.streams import running_server
from benchmarks.tables import Aim, print_aims, print_table, write_json

_EVENTS = 300
_EVENTS_A_READ = (1, 4, 64)
_IN_FLIGHT = 200
_LIMIT_S = 120.0
_MOST = 1.5
_READERS = {
    "stream_upstream": "event_streams:open_generate",
    "stream()": "event_streams:open_stream",
}

Pairs = list[tuple[StreamResult, StreamResult]]


def main() -> None:
    options = _parse_options()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    measured: dict[str, Pairs] = {}
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="benchmark-relay-")))
        server = running.enter_context(running_server(contenders_python(), apart=False))
        pod = f"127.0.0.1:{server.plain_port}"
        port, picker = running.enter_context(running_picker(folder, pod))
        for thread in threads_of(picker):
            take_turns(thread)
        ways = (f"http://{pod}", f"grpc://127.0.0.1:{port}")
        for _ in range(options.rounds):
            for a_read in _EVENTS_A_READ:
                for reader, opener in _READERS.items():
                    straight, relayed = (
                        _measure(opener, f"{way}/{_EVENTS}/{a_read}", server.control_port, options)
                        for way in ways
                    )
                    name = f"{reader}, {a_read} a read"
                    measured.setdefault(name, []).append((straight, relayed))
    _print(measured)
    aims = [
        Aim(f"{name}, CPU beside straight", _ratio(pairs), _MOST)
        for name, pairs in measured.items()
    ]
    print_aims(aims)
    figures = {name: msgspec.to_builtins(pairs) for name, pairs in measured.items()}
    write_json("relayed_streams", {"events": _EVENTS, "pairs": figures}, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each measurement")
    parser.add_argument(
        "--answers", type=int, default=2, help="how many each stream is followed by"
    )
    return parser.parse_args()


def _measure(opener: str, url: str, control_port: int, options: argparse.Namespace) -> StreamResult:
    spec = StreamSpec(
        opener=opener,
        target=Target(url, _IN_FLIGHT),
        control_port=control_port,
        events=_EVENTS,
        answers=options.answers,
    )
    # Not the contenders' Python, which has no protobuf.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream_load", msgspec.json.encode(spec).decode()],
        cwd=REPOSITORY,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{url} failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
    return msgspec.json.decode(done.stdout, type=StreamResult)


def _ratio(pairs: Pairs) -> float:
    return median(relayed.cpu_us / straight.cpu_us for straight, relayed in pairs)


def _print(measured: dict[str, Pairs]) -> None:
    rows: list[list[str]] = []
    for name, pairs in measured.items():
        straight, relayed = (median(pair[way].cpu_us for pair in pairs) for way in (0, 1))
        grown = [
            median(pair[way].peak_mib - pair[way].before_mib for pair in pairs) * 1024 / _IN_FLIGHT
            for way in (0, 1)
        ]
        row = [name, f"{straight:.2f}", f"{relayed:.2f}", f"{_ratio(pairs):.2f}"]
        rows.append([*row, *(f"{one:,.0f}" for one in grown)])
    columns = ["reader", "straight, CPU µs an event", "by way of the picker", "ratio"]
    columns += ["straight, KiB a stream", "by way of the picker"]
    print_table(f"answers of {_EVENTS} events", columns, rows)


if __name__ == "__main__":
    main()
