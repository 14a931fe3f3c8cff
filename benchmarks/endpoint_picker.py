"""What asking an endpoint picker costs: `python -m benchmarks.endpoint_picker [--quick]`.

The same chat request to the same pod in three ways: straight to it, through the picker over
native gRPC, and through Envoy, which asks the same picker. The pod (nginx) answers at once and
the picker (Node.js) does the least that the protocol allows, so that differences are those of the
way. The client has one core, everything else the other; every measurement is a process of its
own; rounds are interleaved and medians shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.environment import REPOSITORY, child_environment
from benchmarks.machine import describe
from benchmarks.picker_load import PickerLoadResult, PickerLoadSpec
from benchmarks.profile_shares import available, samples_of
from benchmarks.servers.pool import BenchmarkPool, running_pool
from benchmarks.tables import Aim, print_aims, print_table, write_json

DIRECT, NATIVE, ENVOY = "straight to the pod", "native gRPC", "through Envoy"
CPU_BESIDE_DIRECT = 4.0
_LIMIT_S = 60.0
_PROFILE_AFTER_S = 2.0
_PROFILED_S = 5.0
_FUNCTIONS = 30

Results = dict[str, list[PickerLoadResult]]


@dataclass(frozen=True)
class Load:
    """How many requests there are at a time, or a second."""

    in_flight: int
    rate: int = 0
    shared_core: bool = False

    def __str__(self) -> str:
        load = f"{self.rate:,} requests/s" if self.rate else f"{self.in_flight:,} in flight"
        return f"{load}, all on one core" if self.shared_core else load


LOADS = (
    Load(1),
    Load(16),
    Load(64, rate=1_000),
    Load(16, shared_core=True),
    Load(256, shared_core=True),
)


def main() -> None:
    options = _parse_options()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    measured: dict[Load, Results] = {}
    with running_pool() as pool:
        for load in LOADS:
            measured[load] = _measure_all(pool, load, options)
            _print(load, measured[load])
        shares = _where_it_goes(pool, measured[LOADS[1]]) if available() else {}
    aims = _aims(measured)
    print_aims(aims)
    figures = {
        "loads": {
            str(load): {name: msgspec.to_builtins(found) for name, found in results.items()}
            for load, results in measured.items()
        },
        "shares": shares,
    }
    write_json("endpoint_picker", figures, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="once, under half a minute")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions")
    parser.add_argument("--window", type=float, default=2.0, help="seconds measured each time")
    return parser.parse_args()


def _measure_all(pool: BenchmarkPool, load: Load, options: argparse.Namespace) -> Results:
    results: Results = {DIRECT: [], NATIVE: [], ENVOY: []}
    urls = {DIRECT: pool.pod_url, NATIVE: pool.picker_url, ENVOY: pool.envoy_url}
    for _ in range(1 if options.quick else options.rounds):
        for name, url in urls.items():
            results[name].append(_measure(pool, url, load, options.window))
    return results


def _measure(pool: BenchmarkPool, url: str, load: Load, window: float) -> PickerLoadResult:
    done = subprocess.run(
        _command(pool, url, load, window),
        cwd=REPOSITORY,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-3:]
        sys.exit("\n".join([f"{url}: failed", *last]))
    return msgspec.json.decode(done.stdout, type=PickerLoadResult)


def _command(pool: BenchmarkPool, url: str, load: Load, window: float) -> list[str]:
    pids = {"pod": pool.pod_pids, "picker": [pool.picker_pid], "envoy": [pool.envoy_pid]}
    spec = PickerLoadSpec(
        url=url,
        in_flight=load.in_flight,
        rate=load.rate,
        shared_core=load.shared_core,
        window=window,
        pids=pids,
    )
    return [sys.executable, "-m", "benchmarks.picker_load", msgspec.json.encode(spec).decode()]


def _where_it_goes(pool: BenchmarkPool, results: Results) -> dict[str, float]:
    """CPU µs a request over native gRPC by what they are spent on, from samples."""
    command = _command(pool, pool.picker_url, LOADS[1], _PROFILED_S + 4)
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        time.sleep(_PROFILE_AFTER_S)
        samples = samples_of(process.pid, _PROFILED_S)
        process.terminate()
    whole, shares = _median(results[NATIVE], "cpu_us"), samples.parts()
    functions = list(samples.functions().items())[:_FUNCTIONS]
    for what, found in (("part", list(shares.items())), ("function", functions)):
        rows = [[one, f"{share:.1%}", f"{share * whole:,.1f}"] for one, share in found]
        print_table("Where native gRPC's CPU goes, 16 in flight", [what, "share", "µs"], rows)
    return dict(shares)


def _median(results: list[PickerLoadResult], field: str) -> float:
    return median(float(getattr(result, field)) for result in results)


def _other(results: list[PickerLoadResult], name: str) -> float:
    return median(result.others_us[name] for result in results)


def _print(load: Load, results: Results) -> None:
    columns = ["way", "requests/s", "client CPU µs", "of direct's", "median µs", "added µs"]
    columns += ["p99 µs", "client busy", "Envoy CPU µs", "picker CPU µs", "pod CPU µs"]
    direct = results[DIRECT]
    rows: list[list[str]] = []
    for name, found in results.items():
        cpu, middle = _median(found, "cpu_us"), _median(found, "median_us")
        rows.append(
            [
                name,
                f"{_median(found, 'requests_per_s'):,.0f}",
                f"{cpu:,.1f}",
                f"{cpu / _median(direct, 'cpu_us'):.2f}",
                f"{middle:,.0f}",
                f"{middle - _median(direct, 'median_us'):,.0f}",
                f"{_median(found, 'p99_us'):,.0f}",
                f"{_median(found, 'cpu_busy'):.0%}",
                *(f"{_other(found, other):,.0f}" for other in ("envoy", "picker", "pod")),
            ]
        )
    print_table(str(load), columns, rows)


def _aims(measured: dict[Load, Results]) -> list[Aim]:
    aims: list[Aim] = []
    for load, results in measured.items():
        direct, native, envoy = (results[name] for name in (DIRECT, NATIVE, ENVOY))
        base = _median(direct, "median_us")
        added = (_median(native, "median_us") - base) / (_median(envoy, "median_us") - base)
        aims.append(Aim(f"added latency beside Envoy's, {load}", added, 1.0))
        cpu = _median(native, "cpu_us") / _median(direct, "cpu_us")
        what = f"client CPU beside that of straight HTTP, {load}"
        aims.append(Aim(what, cpu, CPU_BESIDE_DIRECT))
    return aims


if __name__ == "__main__":
    main()
