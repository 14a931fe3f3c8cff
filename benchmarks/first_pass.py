"""The first pass alone, on one core: `python -m benchmarks.first_pass`.

`make_plan` checks every line of a file and builds the index that a run works from. Beside it, for
scale, loops that only decode each line: json, orjson, and msgspec into the few fields that a batch
line must have. Files of short, ordinary, long and very long lines, in the page cache.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.environment import REPOSITORY, child_environment, contenders_python
from benchmarks.machine import CLIENT_CORE, describe, pin
from benchmarks.payload import batch_line
from benchmarks.tables import Aim, print_aims, print_table, write_json

_OURS = "make_plan"
_LINE_BYTES = [300, 1_100, 10_000, 1_000_000]
_ENVELOPE_BYTES = 75


class PassResult(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds of one pass over a file of so many lines and bytes."""

    reader: str
    line_bytes: int
    lines: int
    megabytes: float
    cpu_s: float

    @property
    def megabytes_per_s(self) -> float:
        return self.megabytes / self.cpu_s

    @property
    def lines_per_s(self) -> float:
        return self.lines / self.cpu_s

    @property
    def score(self) -> float:
        """At least 1 means 300 MB/s or 300,000 lines/s."""
        return max(self.megabytes_per_s / 300, self.lines_per_s / 300_000)


def main() -> None:
    options = _parse_options()
    if options.measure:
        return _measure_here(Path(options.measure), options.reader)
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    megabytes = 30 if options.quick else 200
    results: list[PassResult] = []
    for line_bytes in _LINE_BYTES:
        with TemporaryDirectory(prefix="benchmark-plan-") as name:
            path = Path(name) / "input.jsonl"
            _write(path, line_bytes, megabytes)
            results += [_measure(python, path, line_bytes, reader) for reader in READERS]
    _print(results)
    aims = [
        Aim(
            f"lines of {result.line_bytes:,} bytes, of 300 MB/s or 300,000/s", result.score, 1, True
        )
        for result in results
        if result.reader == _OURS
    ]
    print_aims(aims)
    write_json("first_pass", {"passes": [msgspec.to_builtins(result) for result in results]}, aims)
    return None


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="files of 30 MB, not 200")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    parser.add_argument("--reader", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _write(path: Path, line_bytes: int, megabytes: int) -> None:
    with path.open("wb") as file:
        for number in range(megabytes * 1_000_000 // line_bytes):
            file.write(batch_line(number, line_bytes - _ENVELOPE_BYTES))


def _measure(python: Path, path: Path, line_bytes: int, reader: str) -> PassResult:
    command = [str(python), "-m", "benchmarks.first_pass", "--measure", str(path)]
    done = subprocess.run(
        [*command, "--reader", reader],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{reader} failed:\n{done.stderr.decode('utf-8', 'replace')}")
    lines, cpu_s = msgspec.json.decode(done.stdout, type=tuple[int, float])
    return PassResult(
        reader=reader,
        line_bytes=line_bytes,
        lines=lines,
        megabytes=path.stat().st_size / 1e6,
        cpu_s=cpu_s,
    )


def _measure_here(path: Path, reader: str) -> None:
    """The better of two passes, so that the file is in the page cache and code is warm."""
    pin(CLIENT_CORE)
    read = READERS[reader]()
    best, lines = float("inf"), 0
    for _ in range(2):
        started = time.process_time()
        lines = read(path)
        best = min(best, time.process_time() - started)
    sys.stdout.buffer.write(msgspec.json.encode((lines, best)))


def _make_plan() -> Callable[[Path], int]:
    from batch_gateway.engine.plan import make_plan

    def read(path: Path) -> int:
        with make_plan(path) as plan:
            return plan.total

    return read


def _decode_each(decode: Callable[[bytes], object]) -> Callable[[Path], int]:
    def read(path: Path) -> int:
        lines = 0
        with path.open("rb") as file:
            for line in file:
                decode(line)
                lines += 1
        return lines

    return read


def _json() -> Callable[[Path], int]:
    import json

    return _decode_each(json.loads)


def _orjson() -> Callable[[Path], int]:
    import orjson

    return _decode_each(orjson.loads)


class _Body(msgspec.Struct):
    model: str


class _Line(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: _Body


def _msgspec() -> Callable[[Path], int]:
    return _decode_each(msgspec.json.Decoder(_Line).decode)


READERS: dict[str, Callable[[], Callable[[Path], int]]] = {
    _OURS: _make_plan,
    "json.loads, a line at a time": _json,
    "orjson.loads, a line at a time": _orjson,
    "msgspec into the four fields": _msgspec,
}


def _print(results: list[PassResult]) -> None:
    rows = [
        [
            f"{result.line_bytes:,} B: {result.reader}",
            f"{result.lines:,}",
            f"{result.megabytes_per_s:,.0f}",
            f"{result.lines_per_s:,.0f}",
        ]
        for result in results
    ]
    print_table("one pass on one core", ["line length: reader", "lines", "MB/s", "lines/s"], rows)


if __name__ == "__main__":
    main()
