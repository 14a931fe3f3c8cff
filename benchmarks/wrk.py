"""wrk, a load generator in C, where it is installed: what the machine itself allows."""

from __future__ import annotations

import os
import re
import subprocess
import time
from tempfile import NamedTemporaryFile

import msgspec

from benchmarks.load import LoadResult
from benchmarks.machine import CLIENT_CORE, cpu_seconds_of, pin
from benchmarks.payload import PATH, REQUEST

__all__ = ["NAME", "measure"]

NAME = "wrk (C, no JSON)"


def measure(url: str, in_flight: int, server_pids: list[int]) -> LoadResult:
    """Runs `wrk` on the client's core. Its CPU and rate include opening the connections."""
    seconds = 4 if url.startswith("https:") else 2
    with NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script())
        script.flush()
        command = ["wrk", "-t1", f"-c{in_flight}", f"-d{seconds}", "-s", script.name, url + PATH]
        server_cpu, started = cpu_seconds_of(server_pids), time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: pin(CLIENT_CORE),  # noqa: PLW1509 - no threads here
        )
        assert process.stdout is not None
        text = process.stdout.read().decode()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - started
    server_cpu = cpu_seconds_of(server_pids) - server_cpu
    requests = _number(r"(\d+) requests in", text)
    cpu = usage.ru_utime + usage.ru_stime
    return LoadResult(
        requests=int(requests),
        requests_per_s=_number(r"Requests/sec:\s+([\d.]+)", text),
        cpu_us=cpu / max(requests, 1) * 1e6,
        cpu_busy=cpu / took,
        server_busy=server_cpu / took,
        peak_mib=usage.ru_maxrss / 1024,
    )


def _script() -> str:
    body = msgspec.json.encode(REQUEST).decode()
    assert "]==]" not in body
    return (
        f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
    )


def _number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said something unexpected:\n{text}")
    return float(match.group(1))
