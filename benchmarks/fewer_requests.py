"""What coalescing and the cache save: `python -m benchmarks.fewer_requests [--quick]`.

`batch-gateway run` on short texts for /v1/embeddings, as single requests and coalesced: before
the simulator, which answers at once or at the pace of a small GPU, and before a real llama.cpp
server with a small model. Then the same batch without a cache, with an empty one and with a full
one. The command is pinned to one core and the simulator to another; every run is a process of its
own; rounds are interleaved and medians shown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.environment import REPOSITORY
from benchmarks.machine import SERVER_CORE, describe, pin
from benchmarks.programs import ProgramResult, run_program
from benchmarks.tables import print_table, write_json

_SIZES = (1, 8, 32, 128)
_CONCURRENCY = 256
_PATH = "/v1/embeddings"


@dataclass(frozen=True)
class Gateway:
    """Where a batch goes. `lines` are as many as take a few seconds one by one."""

    name: str
    url: str
    pid: int
    lines: int
    key_file: Path | None = None


Results = dict[str, list[ProgramResult]]


def main() -> None:
    options = _parse_options()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    figures: dict[str, dict[str, Results]] = {"coalescing": {}, "cache": {}}
    with TemporaryDirectory(prefix="benchmark-fewer-") as name:
        folder = Path(name)
        for gateway in _gateways(folder, options):
            results = _coalescing(gateway, folder, options.rounds)
            figures["coalescing"][gateway.name] = results
            _print(f"Coalescing: {gateway.name}, {gateway.lines:,} inputs", results)
            if gateway.key_file is None:
                cached = _cache(gateway, folder, options.rounds)
                figures["cache"][gateway.name] = cached
                _print(f"Cache: {gateway.name}, {gateway.lines:,} inputs", cached)
    write_json("fewer_requests", msgspec.to_builtins(figures), [])


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the inputs, once")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions")
    parser.add_argument("--without-llama", action="store_true", help="the simulator alone")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


def _gateways(folder: Path, options: argparse.Namespace) -> Iterator[Gateway]:
    share = 10 if options.quick else 1
    with _simulator("--instant") as (url, pid):
        yield Gateway("simulator, at once", url, pid, 10_000 // share)
    with _simulator() as (url, pid):
        yield Gateway("simulator, a small GPU", url, pid, 10_000 // share)
    if not options.without_llama:
        yield from _llama(folder, 300 // share)


@contextmanager
def _simulator(*flags: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "batch_gateway", "simulate", "--port", "0", *flags]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: pin(SERVER_CORE),  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://" in line)
            url = "http://" + line.partition("http://")[2].split()[0].rstrip(".,/")
            yield url, process.pid
        finally:
            process.terminate()


def _llama(folder: Path, lines: int) -> Iterator[Gateway]:
    # The start of that peer belongs to the tests, which need more of it.
    from tests.peers.llama import running_llama

    with running_llama(folder, "embed") as llama:
        key = folder / "key"
        key.write_text(llama.key)
        yield Gateway("llama.cpp, SmolLM2 135M", llama.url, os.getpid(), lines, key)


def _coalescing(gateway: Gateway, folder: Path, rounds: int) -> Results:
    batch = _write_batch(folder, gateway.lines)
    results: Results = {}
    for _ in range(rounds):
        for size in _SIZES:
            flags = [] if size == 1 else ["--coalesce", str(size)]
            name = "one by one" if size == 1 else f"--coalesce {size}"
            results.setdefault(name, []).append(_run(gateway, batch, flags))
    return results


def _cache(gateway: Gateway, folder: Path, rounds: int) -> Results:
    batch = _write_batch(folder, gateway.lines)
    results: Results = {"no cache": [], "empty cache": [], "full cache": []}
    for number in range(rounds):
        flags = ["--cache", str(folder / f"{gateway.pid}-{number}.cache")]
        results["no cache"].append(_run(gateway, batch, []))
        results["empty cache"].append(_run(gateway, batch, flags))
        results["full cache"].append(_run(gateway, batch, flags))
    return results


def _write_batch(folder: Path, lines: int) -> Path:
    path = folder / f"{lines}.jsonl"
    with path.open("wb") as file:
        for number in range(lines):
            text = f"Sentence number {number} is about as long as a search query."
            body = {"model": "embedder", "input": text}
            line = {"custom_id": str(number), "method": "POST", "url": _PATH, "body": body}
            file.write(msgspec.json.encode(line) + b"\n")
    return path


def _run(gateway: Gateway, batch: Path, flags: Sequence[str]) -> ProgramResult:
    output = batch.with_suffix(".results.jsonl")
    command = [sys.executable, "-m", "batch_gateway", "run", str(batch), "--fresh", "--quiet"]
    command += ["--gateway", gateway.url, "-o", str(output), "--concurrency", str(_CONCURRENCY)]
    if gateway.key_file is not None:
        command += ["--api-key-file", str(gateway.key_file)]
    return run_program([*command, *flags], gateway.lines, [gateway.pid])


def _print(title: str, results: Results) -> None:
    rows: list[list[str]] = []
    base = 0.0
    for name, found in results.items():
        speed = median(one.requests_per_s for one in found)
        base = base or speed
        cpu, peak = (median(getattr(one, what) for one in found) for what in ("cpu_us", "peak_mib"))
        rows.append([name, f"{speed:,.0f}", f"{speed / base:.2f}", f"{cpu:,.0f}", f"{peak:,.0f}"])
    print_table(title, ["", "lines/s", "gain", "CPU µs", "peak MiB"], rows)


if __name__ == "__main__":
    main()
