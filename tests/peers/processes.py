"""Running a peer as a process: started on a free port, waited for, and always ended."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["accepts_connections", "free_port", "running_process"]

_STOP_LIMIT_S = 5.0
_POLL_S = 0.02


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago, below those that the system gives
    to outgoing connections, of which one could take it until it is used."""
    while True:
        port = 10_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_process(
    command: Sequence[str],
    *,
    is_ready: Callable[[], bool],
    log: Path,
    limit: float = 30.0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once `is_ready` says so; afterwards it and its children are gone.

    Its output goes to `log`, which is quoted when it ends early or is not ready in `limit` s.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
            user=user,
        )
        try:
            _wait_until_ready(process, is_ready, log, limit)
            yield process
        finally:
            _end(process)


def _wait_until_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path, limit: float
) -> None:
    end = time.monotonic() + limit
    while not is_ready():
        if process.poll() is not None:
            raise RuntimeError(f"ended with code {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > end:
            raise RuntimeError(f"not ready after {limit} s:\n{_tail(log)}")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole process group, which holds this process and its children only."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait(_STOP_LIMIT_S)


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-2000:]
