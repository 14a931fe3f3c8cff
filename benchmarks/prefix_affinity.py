"""What a prefix-affine choice of pods is worth: `python -m benchmarks.prefix_affinity [--quick]`.

`batch-gateway run` over native gRPC, on prompts that share their beginnings, before four simulated
pods whose caches together hold all beginnings, and each alone a third of them. The picker chooses
in turn or at random, as a plain service would, by load, or by prefix and load; the lines are sent
as they stand in the file, where neighbours share nothing, or grouped by prefix as `run` does it
unless told otherwise. The simulator's times are those of a small GPU for each pod.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks.environment import REPOSITORY, child_environment
from benchmarks.machine import SERVER_CORE, describe, pin
from benchmarks.programs import run_program
from benchmarks.tables import print_table, write_json

PODS = 4
GROUPS = 64
PREFIX_TOKENS = 2_000
CACHE_TOKENS = 44_000
"""Of each pod: 22 of the 64 beginnings."""

CHOICES = ("round-robin", "random", "least-loaded", "prefix")
ORDERS = ("file", "prefix")
_CONCURRENCY = 64


@dataclass(frozen=True)
class Found:
    """Of one run: how fast it was, and which share of the prompts' tokens was in a cache."""

    requests_per_s: float
    hit_rate: float


Results = dict[str, list[Found]]


def main() -> None:
    options = _parse_options()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    results: Results = {}
    with TemporaryDirectory(prefix="benchmark-prefix-") as name:
        batch = _write_batch(Path(name), options.lines)
        for _ in range(options.rounds):
            for choice in CHOICES:
                for order in ORDERS:
                    found = _run(batch, choice, order, options.lines)
                    results.setdefault(f"{choice}, --order {order}", []).append(found)
    _print(results, options.lines)
    figures = {name: [asdict(one) for one in found] for name, found in results.items()}
    write_json("prefix_affinity", {"lines": options.lines, "runs": figures}, [])


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="half of the lines, once")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions")
    options = parser.parse_args()
    options.lines = 10 * GROUPS
    if options.quick:
        options.rounds, options.lines = 1, 5 * GROUPS
    return options


def _write_batch(folder: Path, lines: int) -> Path:
    words = random.Random(1)
    shared = [
        " ".join(f"{words.randrange(10**7):07d}" for _ in range(PREFIX_TOKENS // 2))
        for _ in range(GROUPS)
    ]
    # In the order of the groups, taking turns would send each group to one pod by accident.
    numbers = random.Random(2).sample(range(lines), lines)
    path = folder / "in.jsonl"
    with path.open("wb") as file:
        for number in numbers:
            messages = [
                {"role": "system", "content": shared[number % GROUPS]},
                {"role": "user", "content": f"Question {number}?"},
            ]
            body = {"model": "m", "messages": messages, "max_tokens": 16}
            url = "/v1/chat/completions"
            line = {"custom_id": str(number), "method": "POST", "url": url, "body": body}
            file.write(msgspec.json.encode(line) + b"\n")
    return path


def _run(batch: Path, choice: str, order: str, lines: int) -> Found:
    with _simulated_pool(choice) as (picker, pod, pid):
        output = batch.with_suffix(".results.jsonl")
        command = [sys.executable, "-m", "batch_gateway", "run", str(batch), "--fresh", "--quiet"]
        command += ["--gateway", picker, "-o", str(output), "--order", order]
        ran = run_program([*command, "--concurrency", str(_CONCURRENCY)], lines, [pid])
        with urllib.request.urlopen(f"{pod}/simulator/decisions", timeout=30) as answer:
            decisions: list[dict[str, Any]] = json.load(answer)
    read = sum(one["prompt_tokens"] for one in decisions)
    return Found(ran.requests_per_s, sum(one["cached_tokens"] for one in decisions) / read)


@contextmanager
def _simulated_pool(choice: str) -> Iterator[tuple[str, str, int]]:
    """A fresh pool: the picker's URL, that of a pod, and the process."""
    # Whoever ends this command ends the simulator with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    command = [sys.executable, "-m", "batch_gateway", "simulate", "--port", "0"]
    command += ["--pods", str(PODS), "--picker-port", "0", "--choice", choice]
    command += ["--prefix-cache-tokens", str(CACHE_TOKENS)]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: pin(SERVER_CORE),  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            assert process.stdout is not None
            found: dict[str, str] = {}
            said = ""
            while len(found) < 2:
                line = process.stdout.readline()
                said += line
                if not line:
                    raise SystemExit(f"the simulated pool did not start: {said}")
                for scheme in ("grpc://", "http://"):
                    if scheme in line:
                        found[scheme] = scheme + line.partition(scheme)[2].split()[0].rstrip(".,")
            yield found["grpc://"], found["http://"], process.pid
        finally:
            process.terminate()


def _print(results: Results, lines: int) -> None:
    base = median(one.requests_per_s for one in next(iter(results.values())))
    rows: list[list[str]] = []
    for name, found in results.items():
        speed = median(one.requests_per_s for one in found)
        hits = median(one.hit_rate for one in found)
        rows.append([name, f"{hits:.0%}", f"{speed:,.1f}", f"{speed / base:.2f}"])
    title = f"{lines:,} lines, {GROUPS} beginnings of {PREFIX_TOKENS:,} tokens, {PODS} pods"
    print_table(title, ["choice", "tokens from the cache", "requests/s", "gain"], rows)


if __name__ == "__main__":
    main()
