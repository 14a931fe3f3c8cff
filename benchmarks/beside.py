"""The working tree beside an earlier revision: `python -m benchmarks.beside --before REV`.

CPU a request of `generate()` at several numbers in flight, and CPU a line and peak memory of
`batch-gateway run`, against a server that answers at once. Both sides are measured in turns, each
time in a process of its own, and each pair gives one ratio, so that a machine which is busy with
other things slows down both. Client and server take turns on one core where requests are
measured, see `benchmarks.machine.take_turns`. `--before HEAD` in a clean tree shows the noise.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec

from benchmarks.client_overhead import Cell, measure
from benchmarks.contenders.roster import ROSTER
from benchmarks.environment import REPOSITORY, child_environment, contenders_python
from benchmarks.load import LoadResult
from benchmarks.machine import describe, take_turns
from benchmarks.payload import batch_line
from benchmarks.programs import ProgramResult, count_lines, run_program
from benchmarks.run_end_to_end import ours
from benchmarks.servers.nginx import Server, running_nginx
from benchmarks.tables import Aim, print_aims, print_table, write_json

_GENERATE = ROSTER["batch-gateway, generate()"]
_IN_FLIGHT = (1, 64, 1_000)
_RUN = "run"
_BODY_BYTES = 1_090
_CONCURRENCY = 1_000
_MOST = 1.03

T = TypeVar("T")
Result = LoadResult | ProgramResult
Pair = tuple[Result, Result]


def main() -> None:
    options = _parse_options()
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    with _checked_out(options.before) as before:
        sides = (before, REPOSITORY / "src")
        for source in sides:
            _require_imported(python, source)
        measured: dict[str, list[Pair]] = {}
        if options.only != _RUN:
            measured |= _measure_requests(python, sides, options.rounds, options.window)
        if options.only != "generate":
            measured |= _measure_runs(python, sides, options.rounds, options.lines)
    _print(measured, options.before)
    aims = [
        Aim(f"{name}, CPU beside {options.before}'s", _ratio(pairs, "cpu_us"), _MOST)
        for name, pairs in measured.items()
    ]
    print_aims(aims)
    figures = {name: msgspec.to_builtins(pairs) for name, pairs in measured.items()}
    write_json("beside", {"before": options.before, "pairs": figures}, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--before", required=True, metavar="REV", help="a revision of git's")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each measurement")
    parser.add_argument("--window", type=float, default=1.0, help="seconds of each measurement")
    parser.add_argument("--lines", type=int, default=20_000, help="of a run")
    parser.add_argument("--only", choices=["generate", _RUN], help="one of the two")
    return parser.parse_args()


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """The `src` of a revision in a folder of its own. Raises SystemExit when there is none."""
    command = ["git", "archive", "--format=tar", revision, "src"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode("utf-8", "replace").strip())
    with TemporaryDirectory(prefix="benchmark-before-") as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder) / "src"


def _require_imported(python: Path, source: Path) -> None:
    code = "import batch_gateway; print(batch_gateway.__file__)"
    done = subprocess.run(
        [python, "-c", code],
        cwd=REPOSITORY,
        env=child_environment(source),
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(done.stdout.strip()).is_relative_to(source):
        raise SystemExit(f"not {source} would be measured, but {done.stdout.strip()}")


# --- measuring ---


def _measure_requests(
    python: Path, sides: tuple[Path, Path], rounds: int, window: float
) -> dict[str, list[Pair]]:
    measured: dict[str, list[Pair]] = {}
    with running_nginx(python) as server:
        for pid in server.pids:
            take_turns(pid)
        for number in range(rounds):
            for in_flight in _IN_FLIGHT:
                found = [
                    measure(
                        python, server, Cell(in_flight), _GENERATE, window, turns=True, source=side
                    )
                    for side in _order(sides, number)
                ]
                first, second = _order(found, number)
                if first is None or second is None:
                    raise SystemExit("one of the two did not get through")
                name = f"generate(), {in_flight:,} in flight"
                measured.setdefault(name, []).append((first, second))
    return measured


def _measure_runs(
    python: Path, sides: tuple[Path, Path], rounds: int, lines: int
) -> dict[str, list[Pair]]:
    pairs: list[Pair] = []
    with TemporaryDirectory(prefix="benchmark-run-") as name, running_nginx(python) as server:
        source = Path(name) / "input.jsonl"
        with source.open("wb") as file:
            file.writelines(batch_line(number, _BODY_BYTES) for number in range(lines))
        for number in range(rounds):
            found = [_run(python, server, source, lines, side) for side in _order(sides, number)]
            first, second = _order(found, number)
            pairs.append((first, second))
    return {f"{_RUN}, {lines:,} lines": pairs}


def _run(python: Path, server: Server, source: Path, lines: int, side: Path) -> ProgramResult:
    output = source.with_name("output.jsonl")
    command = [str(python), *ours(source, server.plain_url, output, _CONCURRENCY)]
    result = run_program(command, lines, server.pids, source=side)
    written = count_lines(output)
    if written != lines:
        raise SystemExit(f"{side} wrote {written:,} results for {lines:,} lines")
    for leftover in output.parent.glob("output*"):
        leftover.unlink()
    return result


def _order(two: Sequence[T], number: int) -> list[T]:
    """Who is first in one round is second in the next; the same again gives the order back."""
    return list(two if number % 2 == 0 else reversed(two))


# --- telling ---


def _ratio(pairs: list[Pair], field: str) -> float:
    return median(getattr(after, field) / getattr(before, field) for before, after in pairs)


def _print(measured: dict[str, list[Pair]], revision: str) -> None:
    columns = ["", "CPU µs before", "now", "now / before", "of single pairs"]
    columns += ["peak MiB before", "now", "now / before"]
    rows: list[list[str]] = []
    for name, pairs in measured.items():
        ratios = sorted(after.cpu_us / before.cpu_us for before, after in pairs)
        row = [name, *(f"{median(pair[side].cpu_us for pair in pairs):,.1f}" for side in (0, 1))]
        row += [f"{_ratio(pairs, 'cpu_us'):.3f}", f"{ratios[0]:.3f} to {ratios[-1]:.3f}"]
        row += [f"{median(pair[side].peak_mib for pair in pairs):,.1f}" for side in (0, 1)]
        rows.append([*row, f"{_ratio(pairs, 'peak_mib'):.3f}"])
    print_table(f"the working tree beside {revision}", columns, rows)


if __name__ == "__main__":
    main()
