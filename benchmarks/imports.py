"""What it costs to start: `python -m benchmarks.imports`.

CPU of a Python process that imports the client and ends, and of each command that says its help,
beside Python alone and the clients that people would import otherwise. Every measurement is a
process of its own, rounds are interleaved, and the least of each is shown: what is above it is the
machine's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.environment import REPOSITORY, contenders_python
from benchmarks.machine import describe
from benchmarks.programs import run_program
from benchmarks.tables import print_table, write_json

_COMMANDS = ("run", "validate", "table", "convert", "doctor", "batches", "serve")
_STARTS: dict[str, list[str]] = {
    "python": ["-c", "pass"],
    "import asyncio": ["-c", "import asyncio"],
    "from batch_gateway import HTTPInferenceClient": [
        "-c",
        "from batch_gateway import HTTPInferenceClient",
    ],
    "import aiohttp": ["-c", "import aiohttp"],
    "import openai": ["-c", "import openai"],
    **{
        f"batch-gateway {command} --help": ["-m", "batch_gateway", command, "--help"]
        for command in _COMMANDS
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7, help="repetitions")
    options = parser.parse_args()
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    found: dict[str, list[float]] = {start: [] for start in _STARTS}
    for _ in range(options.rounds):
        for start, arguments in _STARTS.items():
            found[start].append(_cpu_ms(python, arguments))
    rows = [[start, f"{min(times):.0f}"] for start, times in found.items()]
    print_table("starting", ["program", "CPU ms"], rows)
    write_json("imports", {"cpu_ms": found}, [])


def _cpu_ms(python: Path, arguments: list[str]) -> float:
    return run_program([str(python), *arguments], 1, source=REPOSITORY / "src").cpu_s * 1e3


if __name__ == "__main__":
    main()
