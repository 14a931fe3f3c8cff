"""A run whose answers travel as streams, beside one whose answers do not.

`python -m benchmarks.streamed_runs [--lines N]`: `batch-gateway run` over the same lines with and
without `--stream-upstream`, each answer of 300 events, from a server that writes them one by one,
as fast as it can, or at once where no stream is asked for. CPU and memory are those of the command
from its start to its end; it has one core and the server the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.environment import REPOSITORY, contenders_python
from benchmarks.machine import describe
from benchmarks.payload import batch_line
from benchmarks.programs import ProgramResult, count_lines, run_program
from benchmarks.streams import Server, running_server
from benchmarks.tables import print_table, write_json

_EVENTS = 300
_BODY_BYTES = 1_090
_WAYS: dict[str, tuple[int, list[str]]] = {
    # How many events are in a write, and what the command is told.
    "run": (1, []),
    "run --stream-upstream, an event at a time": (1, ["--stream-upstream"]),
    "run --stream-upstream, four at a time": (4, ["--stream-upstream"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lines", type=int, default=20_000, help="how many")
    parser.add_argument("--in-flight", type=int, default=200, help="requests in flight")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions, interleaved")
    options = parser.parse_args()
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    results: dict[str, list[ProgramResult]] = {way: [] for way in _WAYS}
    with TemporaryDirectory(prefix="benchmark-runs-") as name:
        source = Path(name) / "input.jsonl"
        with source.open("wb") as file:
            file.writelines(batch_line(number, _BODY_BYTES) for number in range(options.lines))
        with running_server(python, apart=True) as server:
            for _ in range(options.rounds):
                for way in _WAYS:
                    results[way].append(_run(python, way, server, source, options))
    _print(results)
    runs = {way: msgspec.to_builtins(found) for way, found in results.items()}
    write_json("streamed_runs", {"lines": options.lines, "events": _EVENTS, "runs": runs}, [])


def _run(
    python: Path, way: str, server: Server, source: Path, options: argparse.Namespace
) -> ProgramResult:
    a_write, told = _WAYS[way]
    url = f"http://127.0.0.1:{server.plain_port}/{_EVENTS}/{a_write}"
    output = source.with_name("output.jsonl")
    command = [str(python), "-m", "batch_gateway", "run", str(source), "--gateway", url]
    command += ["-o", str(output), "--concurrency", str(options.in_flight), "--quiet", *told]
    result = run_program(command, options.lines, [server.pid], source=REPOSITORY / "src")
    written = count_lines(output)
    if written != options.lines:
        raise SystemExit(f"{way}: {written:,} results for {options.lines:,} lines")
    for leftover in output.parent.glob("output*"):
        leftover.unlink()
    return result


def _print(results: dict[str, list[ProgramResult]]) -> None:
    rows: list[list[str]] = []
    for way, found in results.items():
        cpu = median(one.cpu_us for one in found)
        rows.append(
            [
                way,
                f"{cpu:,.0f}",
                f"{cpu / _EVENTS:.2f}",
                f"{median(one.wall_s for one in found):.1f}",
                f"{median(one.server_busy for one in found):.0%}",
                f"{median(one.peak_mib for one in found):.0f}",
            ]
        )
    columns = ["command", "CPU µs a line", "a token", "seconds", "server busy", "peak MiB"]
    print_table(f"runs whose answers have {_EVENTS} tokens", columns, rows)


if __name__ == "__main__":
    main()
