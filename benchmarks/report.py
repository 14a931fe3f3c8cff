"""Put the figures of `out/` into the documentation: `python -m benchmarks.report`.

Replaces what stands between the marks in docs/benchmarks.md; `--only layers` leaves the other
parts be. Figures that `out/` has not are measured now, so that a quiet machine is wanted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.contenders.layered import DEFAULT
from benchmarks.contenders.roster import BASELINE
from benchmarks.environment import OUT, REPOSITORY

_PAGE = REPOSITORY / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", choices=tuple(_PARTS), help="one of the parts")
    only = parser.parse_args().only
    text = _PAGE.read_text("utf-8")
    for mark, sections in _PARTS.items():
        if only in (None, mark):
            text = _with_part(text, mark, sections())
    _PAGE.write_text(text, "utf-8")
    print(f"written: {_PAGE.relative_to(REPOSITORY)}")


def _with_part(text: str, mark: str, sections: Sequence[str]) -> str:
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found_start, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end:
        raise SystemExit(f"{_PAGE} has lost its marks {start} and {end}")
    written = "\n\n".join(section.strip() for section in sections)
    return f"{before}{start}\n{written}\n{end}{after}"


def _figures() -> list[str]:
    return [
        _machine(),
        *_clients(_read("client_overhead")),
        _runs(_read("run_end_to_end")),
        _memory(_read("memory")),
        _first_pass(_read("first_pass")),
        _aims("client_overhead", "run_end_to_end", "memory", "first_pass"),
    ]


def _layers() -> list[str]:
    found = _read("layers")
    measured: dict[str, list[dict[str, float]]] = found["layers"]
    bases = [_median(measured[base], "cpu_us") for base in (DEFAULT, BASELINE)]
    rows: list[list[str]] = []
    for name, results in measured.items():
        cpu = _median(results, "cpu_us")
        rows.append([name, _us(cpu), *(f"{cpu / base:.2f}" for base in bases)])
    columns = ["what is on", "CPU a request", "of the default's", "of aiohttp's"]
    # `describe` is asked after the measuring, so that the load is that of its end, itself included.
    load = f"load average {found['machine']['load_before']}, of which the benchmark is 1"
    return [f"{_where(found)}; {load}.", _table(columns, rows), _aims("layers")]


def _picker() -> list[str]:
    found = _read("endpoint_picker")
    loads: dict[str, dict[str, list[dict[str, Any]]]] = found["loads"]
    tables = [_ways(load, results) for load, results in loads.items()]
    shares: dict[str, float] = found["shares"]
    rows = [[part, f"{share:.0%}"] for part, share in shares.items()]
    where = f"**Where the CPU of native gRPC goes**\n\n{_table(['part', 'share'], rows)}"
    return [*tables, where, _aims("endpoint_picker")]


def _ways(load: str, results: dict[str, list[dict[str, Any]]]) -> str:
    direct = next(iter(results.values()))
    cpu, middle = (_median(direct, field) for field in ("cpu_us", "median_us"))
    rows = [
        [
            way,
            f"{_median(found, 'requests_per_s'):,.0f}",
            _us(_median(found, "cpu_us")),
            f"{_median(found, 'cpu_us') / cpu:.1f}",
            _us(_median(found, "median_us")),
            _us(_median(found, "median_us") - middle) if found is not direct else "",
            _us(_with_envoy(found)),
        ]
        for way, found in results.items()
    ]
    columns = ["way", "requests/s", "client's CPU a request", "of the direct way's"]
    columns += ["median latency", "added", "client's and Envoy's CPU"]
    return f"**{load}**\n\n{_table(columns, rows)}"


def _with_envoy(found: list[dict[str, Any]]) -> float:
    return median(one["cpu_us"] + one["others_us"]["envoy"] for one in found)


def _prefixes() -> list[str]:
    found = _read("prefix_affinity")
    runs: dict[str, list[dict[str, float]]] = found["runs"]
    base = _median(next(iter(runs.values())), "requests_per_s")
    rows: list[list[str]] = []
    for name, results in runs.items():
        speed = _median(results, "requests_per_s")
        hits = _median(results, "hit_rate")
        rows.append([name, f"{hits:.0%}", f"{speed:,.1f}", f"{speed / base:.2f}"])
    columns = ["choice", "prompt tokens from a cache", "requests/s", "gain"]
    return [_table(columns, rows)]


def _streams() -> list[str]:
    found, runs = _read("streams"), _read("streamed_runs")
    cells: dict[str, dict[str, list[dict[str, float]]]] = {
        one["cell"]: one["clients"] for one in found["cells"]
    }
    names = list(next(iter(cells.values())))
    rows = [
        [cell, *(f"{_median(of[name], 'cpu_us'):.1f} µs" if name in of else "" for name in names)]
        for cell, of in cells.items()
    ]
    memory = [[name, f"{kib:.1f} KiB"] for name, kib in found["memory_kib"].items()]
    lines: list[list[str]] = []
    for way, results in runs["runs"].items():
        cpu = _median(results, "cpu_s") / runs["lines"] * 1e6
        peak = f"{_median(results, 'peak_mib'):,.0f} MiB"
        lines.append([way, _us(cpu), f"{cpu / runs['events']:.1f} µs", peak])
    columns = ["command", "CPU a line", "CPU a token", "peak memory"]
    title = f"**{runs['lines']:,} lines of {runs['events']} tokens**"
    return [
        f"{_where(found)}.",
        f"**CPU an event**\n\n{_table(['answers', *names], rows)}",
        f"**Memory of one of 2,000 streams**\n\n{_table(['client', 'memory'], memory)}",
        f"{title}\n\n{_table(columns, lines)}",
        _aims("streams"),
    ]


def _read(name: str) -> dict[str, Any]:
    path = OUT / f"{name}.json"
    if not path.is_file():
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=REPOSITORY, check=True)
    return json.loads(path.read_text("utf-8"))


def _machine() -> str:
    found = _read("client_overhead")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{_where(found)}, loopback; {versions}."


def _where(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return (
        f"Measured on {machine['cores']} cores of an {machine['cpu']}, "
        f"{machine['memory_gib']} GiB, {machine['system'].partition('-')[0]}"
    )


def _clients(found: dict[str, Any]) -> list[str]:
    shown = ((1_000, False, False), (5_000, True, False))
    tables = [
        _client_table(cell)
        for cell in found["cells"]
        if (cell["in_flight"], bool(cell["delay_s"]), cell["tls"]) in shown
    ]
    return [*tables, _cpu_matrix(found["cells"])]


def _title(cell: dict[str, Any]) -> str:
    answers = f"after {cell['delay_s'] * 1000:.0f} ms" if cell["delay_s"] else "at once"
    return f"{cell['in_flight']:,} in flight, answers {answers}{', TLS' if cell['tls'] else ''}"


def _median(found: list[dict[str, float]], field: str) -> float:
    return median(result[field] for result in found)


def _client_table(cell: dict[str, Any]) -> str:
    clients = cell["clients"]
    base = _median(clients[BASELINE], "cpu_us")
    columns = ["client", "requests/s", "CPU a request", "of aiohttp's", "peak memory"]
    if cell["delay_s"]:
        columns.append("of the ideal rate")
    rows: list[list[str]] = []
    for name, found in clients.items():
        rate, cpu = _median(found, "requests_per_s"), _median(found, "cpu_us")
        row = [name, f"{rate:,.0f}", _us(cpu), f"{cpu / base:.2f}"]
        row.append(f"{_median(found, 'peak_mib'):,.0f} MiB")
        if cell["delay_s"]:
            row.append(f"{rate / (cell['in_flight'] / cell['delay_s']):.0%}")
        rows.append(row)
    return f"**{_title(cell)}**\n\n{_table(columns, rows)}"


def _cpu_matrix(cells: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for cell in cells for name in cell["clients"]))
    rows = [[name, *(_cpu_of(cell["clients"].get(name)) for cell in cells)] for name in names]
    columns = ["client", *(_title(cell).replace("in flight, answers ", "") for cell in cells)]
    return f"**CPU a request in all circumstances** (in flight, answers)\n\n{_table(columns, rows)}"


def _cpu_of(found: list[dict[str, float]] | None) -> str:
    return _us(_median(found, "cpu_us")) if found else ""


def _runs(found: dict[str, Any]) -> str:
    columns = ["program", "lines", "requests/s", "CPU a request", "peak memory"]
    rows: list[list[str]] = []
    for name, results in found["programs"].items():
        lines = results[0]["requests"]
        rows.append(
            [
                name,
                f"{lines:,}",
                f"{lines / _median(results, 'wall_s'):,.0f}",
                _us(_median(results, "cpu_s") / lines * 1e6),
                f"{_median(results, 'peak_mib'):,.0f} MiB",
            ]
        )
    title = f"**Whole runs, {found['concurrency']:,} in flight, answers at once**"
    return f"{title}\n\n{_table(columns, rows)}"


def _memory(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{run['requests']:,} lines",
            f"{run['peak_mib']:,.0f} MiB",
            f"{run['requests'] / run['wall_s']:,.0f}",
        ]
        for run in found["runs"]
    ]
    table = _table(["input", "peak memory", "requests/s"], rows)
    return f"**Memory of a run, 1,000 in flight**\n\n{table}"


def _first_pass(found: dict[str, Any]) -> str:
    by_length: dict[int, dict[str, dict[str, Any]]] = {}
    for one in found["passes"]:
        by_length.setdefault(one["line_bytes"], {})[one["reader"]] = one
    readers = list(next(iter(by_length.values())))
    rows = [
        [
            f"{length:,} bytes",
            *(
                f"{of[reader]['megabytes'] / of[reader]['cpu_s']:,.0f} MB/s, "
                f"{of[reader]['lines'] / of[reader]['cpu_s']:,.0f} lines/s"
                for reader in readers
            ),
        ]
        for length, of in by_length.items()
    ]
    return f"**The first pass on one core**\n\n{_table(['line length', *readers], rows)}"


def _aims(*names: str) -> str:
    lines: list[str] = []
    for name in names:
        for aim in _read(name)["aims"]:
            relation = "at least" if aim["at_least"] else "at most"
            verdict = "met" if aim["met"] else "**missed**"
            value = f"{aim['value']:,.3g}" if aim["value"] < 1_000 else f"{aim['value']:,.0f}"
            lines.append(f"| {aim['what']} | {relation} {aim['bound']:g} | {value} | {verdict} |")
    head = "| aim | bound | measured | |\n|---|---|---|---|"
    return "**Aims**\n\n" + "\n".join([head, *lines])


def _us(value: float) -> str:
    return f"{value:,.0f} µs" if value >= 100 else f"{value:.1f} µs"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_PARTS: dict[str, Callable[[], list[str]]] = {
    "figures": _figures,
    "layers": _layers,
    "picker": _picker,
    "prefixes": _prefixes,
    "streams": _streams,
}

if __name__ == "__main__":
    main()
