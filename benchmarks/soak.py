"""Does anything grow? A long run against a gateway with every fault at one percent.

`python -m benchmarks.soak --minutes 30`, or `--picker --lines 100000` for as many requests over
native gRPC, to four pods behind an endpoint picker that has faults of its own. The command's own
engine and client run in this process, so that their tasks can be counted; the simulated gateway
runs in another. At the end memory, tasks, sockets, file descriptors and streams to the picker of
the last third are set beside those of the middle third, and every line must be accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import uvloop

from batch_gateway import (
    HTTPInferenceClientConfig,
    RetryPolicy,
    RoutedInferenceClient,
)
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.picker.exchanger import EndpointPickerExchanger
from batch_gateway.simulator.faults import FAULTS, FaultKind
from batch_gateway.simulator.picker.picker_faults import PICKER_FAULTS
from benchmarks.tables import Aim, print_aims, print_table, write_json

_LINE = (
    b'{"custom_id":"r-%d","method":"POST","url":"/v1/completions",'
    b'"body":{"model":"m","prompt":"Tell me about %d.","max_tokens":16}}\n'
)
_SAMPLE_SECONDS = 2.0
_USUAL = RetryPolicy(max_retries=8, initial_backoff=0.05, rate_limit_backoff=0.1)
# A given number of lines is not to spend its time asleep, nor short of retries.
_PATIENT = replace(_USUAL, max_backoff=1.0, budget_ratio=10.0)


@dataclass(frozen=True)
class Sample:
    """One look at this process."""

    seconds: float
    rss_mib: float
    tasks: int
    sockets: int
    descriptors: int
    streams: int
    done: int


@dataclass(frozen=True)
class Course:
    """What to run: for `seconds`, or `lines` if there are any."""

    in_flight: int
    seconds: float
    lines: int = 0
    stream: bool = False

    @property
    def lines_to_write(self) -> int:
        # More than can be done in the time: the deadline ends the run.
        return self.lines or int(self.seconds * 2500)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to run")
    parser.add_argument("--in-flight", type=int, default=500, help="requests at once")
    parser.add_argument("--rate", type=float, default=0.01, help="probability of each fault")
    parser.add_argument("--lines", type=int, default=0, help="run so many instead of by time")
    parser.add_argument("--picker", action="store_true", help="native gRPC, to four pods")
    parser.add_argument("--stream", action="store_true", help="let answers be streamed")
    arguments = parser.parse_args()
    course = Course(arguments.in_flight, arguments.minutes * 60, arguments.lines, arguments.stream)
    flags = pool_flags(arguments.rate) if arguments.picker else []
    with tempfile.TemporaryDirectory() as folder, simulator(arguments.rate, flags) as url:
        soak = Soak(Path(folder), url, course)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            summary = runner.run(soak.run())
        report(soak, summary, "soak_picker" if arguments.picker else "soak")


def pool_flags(rate: float) -> list[str]:
    """Four pods and a picker that has every fault of its own, half as often."""
    flags = ["--pods", "4", "--picker-port", "0", "--choice", "prefix", "--fallbacks", "2"]
    flags += ["--latency-scale", "0.1"]
    for name in PICKER_FAULTS:
        # Either ends every call of a connection, not one.
        share = 0.01 if name in ("reset-connection", "goaway") else 0.5
        flags += ["--picker-fault", f"{name}={rate * share}"]
    return flags


@contextmanager
def simulator(rate: float, flags: Sequence[str]) -> Iterator[str]:
    """A simulated gateway in a process of its own, with every fault of plain answers."""
    # Whoever ends this command ends the simulator with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    faults = [name for name, fault in FAULTS.items() if fault.kind is not FaultKind.STREAM]
    command = [sys.executable, "-m", "batch_gateway", "simulate", "--port", "0", *flags]
    command += [part for name in faults for part in ("--fault", f"{name}={rate}")]
    command += ["--seats", "1024", "--time-per-token", "20ms", "--tokens-per-second", "20000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                schemes = ("grpc://",) if flags else ("http://",)
                found = next((word for word in line.split() if word.startswith(schemes)), None)
                if found:
                    yield found.rstrip(".,")
                    return
            raise SystemExit("the simulator did not start")
        finally:
            process.terminate()


class Soak:
    """One run, and what was seen of it."""

    def __init__(self, folder: Path, url: str, course: Course) -> None:
        self.folder, self.url, self.course = folder, url, course
        self.pickers: list[EndpointPickerExchanger] = []
        self.samples: list[Sample] = []
        self.stats = RunStats()

    async def run(self) -> RunSummary:
        batch = self.folder / "in.jsonl"
        course = self.course
        with batch.open("wb") as out:
            out.writelines(_LINE % (n, n) for n in range(course.lines_to_write))
        config = HTTPInferenceClientConfig(
            self.url,
            timeout=5.0,
            idle_timeout=5.0,
            # Bodies that never end are one of the faults; they should not be all there is.
            max_response_bytes=256 * 1024,
            max_idle_connections=course.in_flight,
            stream_upstream=course.stream,
            retry=_PATIENT if course.lines else _USUAL,
        )
        sampling = asyncio.create_task(self._sample())
        async with RoutedInferenceClient(config) as client:
            self.pickers = _pickers()
            with make_plan(batch) as plan:
                async with FileJournal.open(
                    plan, self._file("out"), self._file("errors")
                ) as journal:
                    deadline = None if course.lines else course.seconds
                    options = RunOptions(concurrency=course.in_flight, deadline=deadline)
                    summary = await run_plan(
                        plan, journal, client.client_for, options=options, stats=self.stats
                    )
        sampling.cancel()
        left = sum(picker.streams for picker in self.pickers)
        if left:
            raise SystemExit(f"{left} streams were left open at the end")
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
            streams=sum(picker.streams for picker in self.pickers),
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


def _pickers() -> list[EndpointPickerExchanger]:
    """The transports over native gRPC; nothing public leads to them."""
    return [found for found in gc.get_objects() if isinstance(found, EndpointPickerExchanger)]


def report(soak: Soak, summary: RunSummary, name_of_figures: str) -> None:
    # The last requests end one by one, which is no course to compare with.
    lines, in_flight = soak.course.lines, soak.course.in_flight
    samples = [one for one in soak.samples if not lines or one.done < lines - in_flight]
    third = len(samples) // 3
    if not third:
        raise SystemExit("over too soon to compare anything: give it more lines or minutes")
    middle, last = samples[third : 2 * third], samples[2 * third :]
    rows: list[list[str]] = []
    aims: list[Aim] = []
    counted = ["rss_mib", "tasks", "sockets", "descriptors"]
    for name in [*counted, "streams"] if soak.pickers else counted:
        before, after = (
            statistics.median(float(getattr(sample, name)) for sample in part)
            for part in (middle, last)
        )
        rows.append([name, f"{before:,.1f}", f"{after:,.1f}", f"{after / before:.3f}"])
        aims.append(Aim(f"{name}, last third beside the middle", after / before, 1.05))
    print_table("What grew", ["", "middle third", "last third", "ratio"], rows)
    on_disk, different = soak.lines_on_disk()
    finished = summary.succeeded + summary.failed
    print(
        f"\n{finished:,} lines done, {summary.failed:,} failed, {summary.figures.retries:,} retries"
    )
    print(f"{on_disk:,} result lines on disk for {different:,} requests")
    aims.append(Aim("result lines that are missing or doubled", abs(on_disk - finished), 0))
    aims.append(Aim("requests with two results", on_disk - different, 0))
    print_aims(aims)
    figures = {
        "samples": [asdict(sample) for sample in soak.samples],
        "finished": finished,
        "failed": summary.failed,
        "retries": summary.figures.retries,
    }
    write_json(name_of_figures, figures, aims)


if __name__ == "__main__":
    main()
