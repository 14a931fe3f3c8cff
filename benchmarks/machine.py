"""The machine that a figure came from, and which cores the two sides of a measurement get."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path

__all__ = [
    "CLIENT_CORE",
    "SERVER_CORE",
    "cpu_seconds_of",
    "describe",
    "memory_mib",
    "own_cpu_seconds",
    "pin",
    "take_turns",
    "versions",
]

_CORES = sorted(os.sched_getaffinity(0))
CLIENT_CORE = _CORES[0]
SERVER_CORE = _CORES[-1]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def pin(core: int) -> None:
    """Keep this process, and whatever it starts, on one core."""
    os.sched_setaffinity(0, {core})


def take_turns(pid: int = 0) -> None:
    """Put a process (0: this one) on the client's core, where it runs until it has nothing to do.

    Two that do so wait for each other. Otherwise what one request costs the client depends on
    whether the server has gone to sleep since the one before: waking it is part of the sending,
    and on a virtual machine that costs more than all the rest of it.
    """
    os.sched_setaffinity(pid, {CLIENT_CORE})
    os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


def cpu_seconds_of(pids: list[int]) -> float:
    """User and system seconds that these processes have used, to a hundredth of a second."""
    ticks = 0
    for pid in pids:
        # Fields 14 and 15; the name in field 2 may hold blanks, so count from its parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_S


def own_cpu_seconds() -> float:
    """The same of this process, exactly."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory_mib(field: str, pid: int | str = "self") -> float:
    """`VmRSS`, what a process has of memory, or `VmHWM`, the most that it has had."""
    # Not ru_maxrss, which a child inherits from the process that started it.
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def describe() -> dict[str, str | int]:
    """What a reader needs to judge absolute figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_name(),
        "cores": len(_CORES),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def versions(packages: list[str]) -> dict[str, str]:
    """Installed versions, of this interpreter."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
