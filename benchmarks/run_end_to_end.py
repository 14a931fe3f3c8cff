"""A whole batch, from the command to the last result: `python -m benchmarks.run_end_to_end`.

Each contender is a program of its own that reads an OpenAI Batch file, sends every line to a
server that answers at once, and writes the results. Counted from its start to its end: reading
and checking the input, sending, writing, and starting Python. `batch-gateway run` also checks
every line before it sends the first, keeps its journal, and retries.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.environment import contenders_python
from benchmarks.machine import describe
from benchmarks.payload import batch_line
from benchmarks.programs import ProgramResult, count_lines, run_program
from benchmarks.servers.nginx import Server, running_nginx
from benchmarks.tables import Aim, print_aims, print_table, write_json

LINES = 100_000
# Fewer would measure little more than starting Python.
_FEWEST = 2_000
_BODY_BYTES = 1_090
_OURS = "batch-gateway run"
_AIOHTTP = "aiohttp + semaphore"


@dataclass(frozen=True)
class Program:
    """`share` is the part of the lines it gets, so that slow ones end within the minute."""

    name: str
    share: float
    command: Callable[[Path, str, Path, int], list[str]]


def ours(source: Path, url: str, output: Path, concurrency: int) -> list[str]:
    command = ["-m", "batch_gateway", "run", str(source), "--gateway", url, "-o", str(output)]
    return [*command, "--concurrency", str(concurrency), "--quiet"]


def _loop(module: str) -> Callable[[Path, str, Path, int], list[str]]:
    def command(source: Path, url: str, output: Path, concurrency: int) -> list[str]:
        return ["-m", f"benchmarks.loops.{module}", str(source), url, str(output), str(concurrency)]

    return command


PROGRAMS = [
    Program(_OURS, 1.0, ours),
    Program(_AIOHTTP, 1.0, _loop("aiohttp_semaphore")),
    Program("flexllm chat_batch", 0.1, _loop("flexllm_batch")),
    Program("AsyncOpenAI + semaphore", 0.03, _loop("openai_semaphore")),
]

Results = dict[str, list[ProgramResult]]


def main() -> None:
    options = _parse_options()
    lines = options.lines or (LINES // 10 if options.quick else LINES)
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    results: Results = {}
    with TemporaryDirectory(prefix="benchmark-run-") as folder, running_nginx(python) as server:
        for _ in range(options.rounds):
            for program in PROGRAMS:
                if options.only in program.name:
                    count = min(max(int(lines * program.share), _FEWEST), lines)
                    result = _run(python, program, server, Path(folder), count, options.concurrency)
                    results.setdefault(program.name, []).append(result)
    _print(results, options.concurrency)
    aims = _aims(results)
    print_aims(aims)
    figures = {"lines": lines, "concurrency": options.concurrency}
    programs = {name: msgspec.to_builtins(found) for name, found in results.items()}
    write_json("run_end_to_end", {**figures, "programs": programs}, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines")
    parser.add_argument("--lines", type=int, default=0, help=f"how many (default {LINES:,})")
    parser.add_argument("--concurrency", type=int, default=1_000, help="requests in flight")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions, interleaved")
    parser.add_argument("--only", default="", help="programs whose name contains this")
    return parser.parse_args()


def _run(
    python: Path, program: Program, server: Server, folder: Path, lines: int, concurrency: int
) -> ProgramResult:
    source, output = folder / f"input-{lines}.jsonl", folder / "output.jsonl"
    if not source.exists():
        with source.open("wb") as file:
            file.writelines(batch_line(number, _BODY_BYTES) for number in range(lines))
    command = program.command(source, server.plain_url, output, concurrency)
    result = run_program([str(python), *command], lines, server.pids)
    written = count_lines(output)
    if written != lines:
        raise SystemExit(f"{program.name} wrote {written:,} results for {lines:,} lines")
    for leftover in folder.glob("output*"):
        leftover.unlink()
    return result


def _median(found: list[ProgramResult], field: str) -> float:
    return median(float(getattr(result, field)) for result in found)


def _print(results: Results, concurrency: int) -> None:
    columns = ["program", "lines", "requests/s", "CPU µs", "CPU / aiohttp", "rate / aiohttp"]
    columns += ["server busy", "peak MiB"]
    base = results.get(_AIOHTTP)
    rows: list[list[str]] = []
    for name, found in results.items():
        rate, cpu = _median(found, "requests_per_s"), _median(found, "cpu_us")
        rows.append(
            [
                name,
                f"{found[0].requests:,}",
                f"{rate:,.0f}",
                f"{cpu:,.1f}",
                f"{cpu / _median(base, 'cpu_us'):.2f}" if base else "",
                f"{rate / _median(base, 'requests_per_s'):.2f}" if base else "",
                f"{_median(found, 'server_busy'):.0%}",
                f"{_median(found, 'peak_mib'):,.0f}",
            ]
        )
    print_table(f"whole runs, {concurrency:,} in flight, answers at once", columns, rows)


def _aims(results: Results) -> list[Aim]:
    if _OURS not in results or _AIOHTTP not in results:
        return []
    ratio = _median(results[_OURS], "cpu_us") / _median(results[_AIOHTTP], "cpu_us")
    return [Aim("a whole run's CPU a request beside a bare aiohttp loop's", ratio, 1.0)]


if __name__ == "__main__":
    main()
