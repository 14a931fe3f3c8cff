"""What batches cost through the service: `python -m benchmarks.service_batches`.

The same file through `serve` and through `run`, in turns, to one simulated gateway that answers at
once: seconds and CPU of each. Then, of the service alone: start to ready, the time from the request
for a batch to its first request at the gateway, from a cancellation and from the end of a window to
the last abort, status polls while a batch is under way, a hundred batches of a hundred lines at
once, and one large batch with the peak of memory. The service has one core, and the gateway the
other.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai

from batch_gateway.testing import GatewayHandle, simulated_gateway
from benchmarks.environment import REPOSITORY
from benchmarks.machine import CLIENT_CORE, cpu_seconds_of, describe, memory_mib
from benchmarks.programs import ProgramResult, run_program
from benchmarks.tables import Aim, print_aims, print_table, write_json

CONCURRENCY = 64
_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Service:
    """A running `batch-gateway serve`."""

    sdk: openai.OpenAI
    pid: int
    ready_seconds: float

    def submit(self, path: Path) -> str:
        file = self.sdk.files.create(file=path, purpose="batch")
        return self.sdk.batches.create(
            input_file_id=file.id, completion_window="24h", endpoint="/v1/chat/completions"
        ).id

    def wait(self, batch_id: str, every: float = 0.02) -> str:
        # A look by the package takes a millisecond of the CPU that the service is measured on.
        with contextlib.closing(self.connect()) as connection:
            while (status := status_of(connection, batch_id)) not in _ENDED:
                time.sleep(every)
            return status

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.sdk.base_url.netloc.decode())


_ENDED = {"completed", "failed", "cancelled", "expired"}


def status_of(connection: http.client.HTTPConnection, batch_id: str) -> str:
    connection.request("GET", f"/v1/batches/{batch_id}")
    return json.loads(connection.getresponse().read())["status"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lines", type=int, default=20_000, help="of the file beside run")
    parser.add_argument("--rounds", type=int, default=7, help="of both, in turns")
    parser.add_argument("--large", type=int, default=50_000, help="lines of the large batch")
    given = parser.parse_args()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    figures: dict[str, float] = {}
    with TemporaryDirectory(prefix="benchmark-batches-") as name:
        folder = Path(name)
        with simulated_gateway() as gateway:
            figures |= _beside_run(folder, gateway, given.lines, given.rounds)
        # Its journal has grown by then, and takes its time to be read.
        with simulated_gateway() as gateway:
            figures |= _alone(folder, gateway, given.large)
        with simulated_gateway(latency_scale=20.0) as slow:
            figures["cancel to last abort, s"] = _cancelling(folder, slow)
            figures["window over to last abort, s"] = _expiring(folder, slow)
            figures["status polls a CPU second, a batch under way"] = _polling(folder, slow)
    print_table("the service", ["", ""], [[key, f"{one:,.3f}"] for key, one in figures.items()])
    aims = [
        Aim("seconds beside run", figures["seconds beside run"], 1.15),
        Aim("CPU beside run", figures["CPU beside run"], 1.15),
        Aim("submit to first request, s", figures["submit to first request, s"], 0.3),
        Aim("start to ready, s", figures["start to ready, s"], 1.5),
        Aim("cancel to last abort, s", figures["cancel to last abort, s"], 0.5),
        Aim("window over to last abort, s", figures["window over to last abort, s"], 0.5),
        Aim("peak MiB with the large batch", figures["peak MiB with the large batch"], 300),
        Aim(
            "status polls a CPU second, a batch under way",
            figures["status polls a CPU second, a batch under way"],
            3000,
            at_least=True,
        ),
    ]
    print_aims(aims)
    write_json("service_batches", figures, aims)


def _beside_run(folder: Path, gateway: GatewayHandle, lines: int, rounds: int) -> dict[str, float]:
    path = batch_file(folder, lines)
    seconds, cpu = list[float](), list[float]()
    for number in range(rounds):
        ran = run_alone(folder / f"out-{number}.jsonl", path, gateway)
        with _serving(folder / f"data-{number}", gateway) as service:
            began, before = time.monotonic(), cpu_seconds_of([service.pid])
            assert service.wait(service.submit(path)) == "completed"
            seconds.append((time.monotonic() - began) / ran.wall_s)
            cpu.append((cpu_seconds_of([service.pid]) - before) / ran.cpu_s)
        print(
            f"round {number + 1}: run {ran.wall_s:.2f} s, {ran.cpu_s:.2f} s of CPU; "
            f"serve {seconds[-1]:.3f} and {cpu[-1]:.3f} times that"
        )
    return {
        "seconds beside run": statistics.median(seconds),
        "CPU beside run": statistics.median(cpu),
    }


def run_alone(
    output: Path, path: Path, gateway: GatewayHandle, core: int | None = CLIENT_CORE
) -> ProgramResult:
    """What `run` does with the lines that the service gets."""
    command = [sys.executable, "-m", "batch_gateway", "run", str(path), "--gateway", gateway.url]
    command += ["-o", str(output), "--quiet", "--concurrency", str(CONCURRENCY)]
    return run_program(command, 1, core=core)


def _alone(folder: Path, gateway: GatewayHandle, large: int) -> dict[str, float]:
    one, hundred = batch_file(folder, 1), batch_file(folder, 100)
    figures: dict[str, float] = {}
    with _serving(folder / "alone", gateway) as service:
        figures["start to ready, s"] = service.ready_seconds
        firsts: list[float] = []
        for _ in range(10):
            file = service.sdk.files.create(file=one, purpose="batch")
            seen, began = gateway.journal()["received"], time.monotonic()
            service.sdk.batches.create(
                input_file_id=file.id, completion_window="24h", endpoint="/v1/chat/completions"
            )
            while gateway.journal()["received"] == seen:
                time.sleep(0.002)
            firsts.append(time.monotonic() - began)
        figures["submit to first request, s"] = statistics.median(firsts)
        began = time.monotonic()
        for batch_id in [service.submit(hundred) for _ in range(100)]:
            assert service.wait(batch_id) == "completed"
        figures["100 batches of 100 lines, s"] = time.monotonic() - began
    path = batch_file(folder, large)
    with _serving(folder / "large", gateway) as service:
        began = time.monotonic()
        assert service.wait(service.submit(path), every=0.5) == "completed"
        figures["large batch, lines/s"] = large / (time.monotonic() - began)
        figures["peak MiB with the large batch"] = memory_mib("VmHWM", service.pid)
    return figures


def _cancelling(folder: Path, gateway: GatewayHandle) -> float:
    path = batch_file(folder, 1000)
    with _serving(folder / "cancelling", gateway) as service:
        batch_id = service.submit(path)
        while gateway.journal()["in_flight"] < CONCURRENCY:
            time.sleep(0.01)
        began = time.monotonic()
        service.sdk.batches.cancel(batch_id)
        while gateway.journal()["in_flight"]:
            time.sleep(0.002)
        return time.monotonic() - began


def _expiring(folder: Path, gateway: GatewayHandle) -> float:
    path, window = batch_file(folder, 1000), 3.0
    with _serving(folder / "expiring", gateway) as service:
        file = service.sdk.files.create(file=path, purpose="batch")
        began, asked = time.monotonic(), {"completion_window": f"{window:g}s"}
        service.sdk.batches.create(
            input_file_id=file.id,
            completion_window="24h",
            endpoint="/v1/chat/completions",
            extra_body=asked,
        )
        while not gateway.journal()["in_flight"]:
            time.sleep(0.01)
        while gateway.journal()["in_flight"]:
            time.sleep(0.002)
        return time.monotonic() - began - window


def _polling(folder: Path, gateway: GatewayHandle) -> float:
    """The CPU is that of the service, the batch's too."""
    path = batch_file(folder, 1000)
    with _serving(folder / "polling", gateway) as service:
        batch_id = service.submit(path)
        while gateway.journal()["in_flight"] < CONCURRENCY:
            time.sleep(0.01)
        polls, cpu = polls_of(service, batch_id)
        return polls / cpu


def polls_of(service: Service, batch_id: str) -> tuple[int, float]:
    """Status polls in some seconds, over a few connections, and the CPU seconds they took."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(service.connect())) for _ in range(8)]
        count, cpu, end = 0, cpu_seconds_of([service.pid]), time.monotonic() + _POLL_SECONDS
        while time.monotonic() < end:
            for connection in connections:
                connection.request("GET", f"/v1/batches/{batch_id}")
            answers = [json.loads(one.getresponse().read())["status"] for one in connections]
            assert set(answers) == {"in_progress"}
            count += len(connections)
        return count, cpu_seconds_of([service.pid]) - cpu


@contextlib.contextmanager
def _serving(data: Path, gateway: GatewayHandle) -> Iterator[Service]:
    command: list[object] = ["serve", "--gateway", gateway.url, "--data", data, "--port", 0]
    command += ["--observability-port", 0, "--concurrency", CONCURRENCY]
    command += ["--max-file-bytes", "4GiB", "--max-file-lines", 10_000_000]
    began = time.monotonic()
    with subprocess.Popen(
        _pinned(command),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ready = time.monotonic() - began
        try:
            with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as sdk:
                yield Service(sdk, process.pid, ready)
        finally:
            process.send_signal(signal.SIGTERM)


def _pinned(arguments: list[Any]) -> list[str]:
    program = [sys.executable, "-m", "batch_gateway", *map(str, arguments)]
    return ["taskset", "-c", str(CLIENT_CORE), *program]


def batch_file(folder: Path, lines: int) -> Path:
    """A file of so many prompts, made the first time it is asked for."""
    path = folder / f"{lines}.jsonl"
    if not path.exists():
        with path.open("w") as file:
            for number in range(lines):
                body = {
                    "model": "m",
                    "messages": [{"role": "user", "content": f"Say {number} in words. " * 20}],
                }
                line = {"custom_id": f"line-{number}", "method": "POST", "body": body}
                line["url"] = "/v1/chat/completions"
                file.write(json.dumps(line) + "\n")
    return path


if __name__ == "__main__":
    main()
