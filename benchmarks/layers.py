"""What each layer costs when it is on: `python -m benchmarks.layers [--quick]`.

The client benchmark at 1,000 in flight, plain, answers at once, with one layer after the other,
and with all together. CPU is beside the client's with none of them, and beside bare aiohttp's.
Every measurement is a process of its own; rounds are interleaved and medians shown. Client and
server take turns on one core, see `benchmarks.machine.take_turns`.
"""

from __future__ import annotations

import argparse
from statistics import median

import msgspec

from benchmarks.client_overhead import DELAY_S, Cell, measure
from benchmarks.contenders.layered import ALL, DEFAULT, LAYERS
from benchmarks.contenders.roster import BASELINE, ROSTER, Contender
from benchmarks.environment import contenders_python
from benchmarks.load import LoadResult
from benchmarks.machine import describe, take_turns
from benchmarks.servers.nginx import running_nginx
from benchmarks.tables import Aim, print_aims, print_table, write_json

_CELL = Cell(1_000)
_ALL_BESIDE_AIOHTTP = 0.7

Results = dict[str, list[LoadResult]]


def main() -> None:
    options = _parse_options()
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    names = [DEFAULT, *(name for name in LAYERS if options.only in name), ALL]
    contenders = [ROSTER[BASELINE], *(Contender(name, "") for name in names)]
    results: Results = {}
    with running_nginx(python, DELAY_S) as server:
        for pid in server.pids:
            take_turns(pid)
        for _ in range(1 if options.quick else options.rounds):
            for contender in contenders:
                found = measure(python, server, _CELL, contender, options.window, turns=True)
                if found is not None:
                    results.setdefault(contender.name, []).append(found)
    _print(results)
    aims = _aims(results)
    print_aims(aims)
    figures = {"layers": {name: msgspec.to_builtins(found) for name, found in results.items()}}
    if not options.only:
        write_json("layers", figures, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="once, under a minute")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions")
    parser.add_argument("--window", type=float, default=1.0, help="seconds measured each time")
    parser.add_argument("--only", default="", help="layers whose name contains this")
    return parser.parse_args()


def _cpu(results: Results, name: str) -> float:
    return median(found.cpu_us for found in results[name])


def _print(results: Results) -> None:
    columns = ["layer", "requests/s", "CPU µs", "CPU / default", "CPU / aiohttp"]
    rows: list[list[str]] = []
    for name, found in results.items():
        cpu = _cpu(results, name)
        row = [name, f"{median(one.requests_per_s for one in found):,.0f}", f"{cpu:,.1f}"]
        row += [
            f"{cpu / _cpu(results, base):.2f}" if base in results else ""
            for base in (DEFAULT, BASELINE)
        ]
        rows.append(row)
    print_table(str(_CELL), columns, rows)


def _aims(results: Results) -> list[Aim]:
    if ALL not in results or BASELINE not in results:
        return []
    ratio = _cpu(results, ALL) / _cpu(results, BASELINE)
    return [Aim("all layers together, CPU beside aiohttp's", ratio, _ALL_BESIDE_AIOHTTP)]


if __name__ == "__main__":
    main()
