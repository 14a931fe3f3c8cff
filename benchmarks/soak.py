"""Does anything grow? A long run against a gateway with every fault at one percent.

`python -m benchmarks.soak --minutes 30`. The command's own engine and client run in this process,
so that their tasks can be counted; the simulated gateway runs in another. At the end memory,
tasks, sockets and file descriptors of the last third are set beside those of the middle third,
and every line must be accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from batch_gateway import (
    HTTPInferenceClientConfig,
    RetryPolicy,
    RoutedInferenceClient,
)
from batch_gateway.batch.journal import Journal
from batch_gateway.batch.plan import make_plan
from batch_gateway.batch.progress import RunStats, RunSummary
from batch_gateway.batch.run import RunOptions, run_batch
from batch_gateway.simulator.faults import FAULTS, FaultKind
from benchmarks.tables import Aim, print_aims, print_table, write_json

_LINE = (
    b'{"custom_id":"r-%d","method":"POST","url":"/v1/completions",'
    b'"body":{"model":"m","prompt":"Tell me about %d.","max_tokens":16}}\n'
)
_SAMPLE_SECONDS = 2.0


@dataclass(frozen=True)
class Sample:
    """One look at this process."""

    seconds: float
    rss_mib: float
    tasks: int
    sockets: int
    descriptors: int
    done: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to run")
    parser.add_argument("--in-flight", type=int, default=500, help="requests at once")
    parser.add_argument("--rate", type=float, default=0.01, help="probability of each fault")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, simulator(arguments.rate) as url:
        soak = Soak(Path(folder), url, arguments.in_flight, arguments.minutes * 60)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            summary = runner.run(soak.run())
        report(soak.samples, summary, soak.lines_on_disk())


@contextmanager
def simulator(rate: float) -> Iterator[str]:
    """A simulated gateway in a process of its own, with every fault of plain answers."""
    faults = [name for name, fault in FAULTS.items() if fault.kind is not FaultKind.STREAM]
    flags = [part for name in faults for part in ("--fault", f"{name}={rate}")]
    command = [sys.executable, "-m", "batch_gateway", "simulate", "--port", "0", *flags]
    command += ["--seats", "1024", "--time-per-token", "20ms", "--tokens-per-second", "20000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = next((word for word in line.split() if word.startswith("http://")), None)
                if found:
                    yield found.rstrip(".,")
                    return
            raise SystemExit("the simulator did not start")
        finally:
            process.terminate()


class Soak:
    """One run, and what was seen of it."""

    def __init__(self, folder: Path, url: str, in_flight: int, seconds: float) -> None:
        self.folder, self.url = folder, url
        self.in_flight, self.seconds = in_flight, seconds
        self.samples: list[Sample] = []
        self.stats = RunStats()

    async def run(self) -> RunSummary:
        batch = self.folder / "in.jsonl"
        # More than can be done in the time: the deadline ends the run.
        with batch.open("wb") as out:
            out.writelines(_LINE % (n, n) for n in range(int(self.seconds * 2500)))
        config = HTTPInferenceClientConfig(
            self.url,
            timeout=5.0,
            # Bodies that never end are one of the faults; they should not be all there is.
            max_response_bytes=256 * 1024,
            max_idle_connections=self.in_flight,
            retry=RetryPolicy(max_retries=8, initial_backoff=0.05, rate_limit_backoff=0.1),
        )
        sampling = asyncio.create_task(self._sample())
        async with RoutedInferenceClient(config) as client:
            with make_plan(batch) as plan:
                async with Journal.open(plan, self._file("out"), self._file("errors")) as journal:
                    options = RunOptions(concurrency=self.in_flight, deadline=self.seconds)
                    summary = await run_batch(
                        plan, journal, client.client_for, options=options, stats=self.stats
                    )
        sampling.cancel()
        return summary

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            self.samples.append(self._look(loop.time() - started))
            if len(self.samples) % 30 == 0:
                print(self.samples[-1], flush=True)

    def _look(self, seconds: float) -> Sample:
        links = [_target(entry) for entry in Path("/proc/self/fd").iterdir()]
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return Sample(
            seconds=round(seconds, 1),
            rss_mib=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
            tasks=len(asyncio.all_tasks()),
            sockets=sum(link.startswith("socket:") for link in links),
            descriptors=len(links),
            done=self.stats.succeeded + self.stats.failed,
        )

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def lines_on_disk(self) -> tuple[int, int]:
        """Result lines, and how many different requests they are for."""
        ids: set[bytes] = set()
        lines = 0
        for path in (self._file("out"), self._file("errors")):
            with path.open("rb") as file:
                for line in file:
                    lines += 1
                    ids.add(line.split(b'"', 4)[3])
        return lines, len(ids)


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def report(samples: list[Sample], summary: RunSummary, on_disk: tuple[int, int]) -> None:
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    rows: list[list[str]] = []
    aims: list[Aim] = []
    for name in ("rss_mib", "tasks", "sockets", "descriptors"):
        before, after = (
            statistics.median(float(getattr(sample, name)) for sample in part)
            for part in (middle, last)
        )
        rows.append([name, f"{before:,.1f}", f"{after:,.1f}", f"{after / before:.3f}"])
        aims.append(Aim(f"{name}, last third beside the middle", after / before, 1.05))
    print_table("What grew", ["", "middle third", "last third", "ratio"], rows)
    lines, different = on_disk
    finished = summary.succeeded + summary.failed
    print(f"\n{finished:,} lines done, {summary.failed:,} failed, {summary.retries:,} retries")
    print(f"{lines:,} result lines on disk for {different:,} requests")
    aims.append(Aim("result lines that are missing or doubled", abs(lines - finished), 0))
    aims.append(Aim("requests with two results", lines - different, 0))
    print_aims(aims)
    figures = {
        "samples": [asdict(sample) for sample in samples],
        "finished": finished,
        "failed": summary.failed,
        "retries": summary.retries,
    }
    write_json("soak", figures, aims)


if __name__ == "__main__":
    main()
