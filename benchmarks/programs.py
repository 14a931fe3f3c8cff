"""Running a whole program and counting what it used, from its start to its end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from benchmarks.environment import REPOSITORY, child_environment
from benchmarks.machine import CLIENT_CORE, cpu_seconds_of, pin

__all__ = ["ProgramResult", "count_lines", "run_program"]


class ProgramResult(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds on the wall, seconds of user + system CPU, MiB at the peak; `requests` were sent."""

    requests: int
    wall_s: float
    cpu_s: float
    server_busy: float
    peak_mib: float

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.wall_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.requests * 1e6


def run_program(
    command: Sequence[str],
    requests: int,
    server_pids: Sequence[int] = (),
    *,
    source: Path | None = None,
    core: int | None = CLIENT_CORE,
) -> ProgramResult:
    """Run `command` to its end on `core`, or on any. For `source` see `child_environment`.

    Raises SystemExit with its last lines when it ends with an error.
    """
    pids = list(server_pids)
    with TemporaryFile() as output:
        server_cpu, started = cpu_seconds_of(pids), time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=child_environment(source),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=None if core is None else lambda: pin(core),  # noqa: PLW1509 - no threads here
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            last = output.read().decode("utf-8", "replace").strip().splitlines()[-8:]
            raise SystemExit("\n".join([f"failed: {' '.join(command)}", *last]))
    return ProgramResult(
        requests=requests,
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        server_busy=(cpu_seconds_of(pids) - server_cpu) / wall,
        peak_mib=usage.ru_maxrss / 1024,
    )


def count_lines(path: Path) -> int:
    """Line breaks in a file of any size."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
