"""A gateway to test against: the simulator on a thread of its own, for code of any kind.

`simulated_pool` runs several, behind an endpoint picker as llm-d and GAIE have it.

A pytest fixture, and a test that uses it:

    import json
    import urllib.request

    import pytest
    from batch_gateway.testing import simulated_gateway

    @pytest.fixture
    def gateway():
        with simulated_gateway(models=["tiny"]) as gateway:
            yield gateway

    def test_my_code_gets_an_answer(gateway):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}]}
        request = urllib.request.Request(
            gateway.url + "/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "X-Request-ID": "req-1"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
        assert answer["choices"][0]["message"]["content"]
        assert gateway.journal()["requests"]["req-1"]["completed"] == 1
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from batch_gateway.config_checks import require_kind
from batch_gateway.simulator.picker.decisions import Decision
from batch_gateway.simulator.picker.picker_config import PickerConfig
from batch_gateway.simulator.picker.simulated_pool import SimulatedPool
from batch_gateway.simulator.server_exchange import ReceivedRequest
from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig

__all__ = [
    "Decision",
    "GatewayHandle",
    "PickerConfig",
    "PoolHandle",
    "SimulatedGateway",
    "SimulatedPool",
    "SimulatorConfig",
    "simulated_gateway",
    "simulated_pool",
]

_T = TypeVar("_T")
_WAIT_SECONDS = 30.0


class GatewayHandle:
    """A simulated gateway that runs on another thread. Every method may be called from any.

    Raises RuntimeError once its `with` block has ended.
    """

    def __init__(self, gateway: SimulatedGateway, loop: asyncio.AbstractEventLoop) -> None:
        self._gateway = gateway
        self._loop = loop
        self.url = gateway.url
        self.port = gateway.port
        self.unix_socket = gateway.unix_socket

    @property
    def config(self) -> SimulatorConfig:
        """How the gateway behaves."""
        return self._gateway.config

    def journal(self) -> dict[str, Any]:
        """What it saw until now: totals, and `requests` by X-Request-ID."""
        return self._call(self._gateway.journal.snapshot)

    def recent_requests(self) -> list[ReceivedRequest]:
        """The last hundred inference requests as they came, oldest first."""
        return self._call(lambda: list(self._gateway.journal.recent))

    def clear_journal(self) -> None:
        """Forget the requests that were seen so far."""
        self._call(self._gateway.journal.clear)

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace the probabilities of faults; {} ends them all."""
        self._call(lambda: self._gateway.set_faults(faults))

    def configure(self, **changes: Any) -> None:
        """Change any setting but the certificates. Raises ConfigError."""
        self._call(lambda: self._gateway.configure(**changes))

    def stop(self) -> None:
        """Go away: new connections are refused and open ones broken off."""
        _run(self._gateway.stop, self._loop)

    def start(self) -> None:
        """Come back on the same address."""
        _run(self._gateway.start, self._loop)

    def _call(self, function: Callable[[], _T]) -> _T:
        return _on_loop(function, self._loop)


@contextmanager
def simulated_gateway(
    config: SimulatorConfig | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    unix_socket: str | os.PathLike[str] | None = None,
    tls: ssl.SSLContext | None = None,
    **overrides: Any,
) -> Generator[GatewayHandle]:
    """Run a simulated gateway until the block ends.

    Args:
        config: how it behaves; `SimulatorConfig.instant()` by default.
        host, port, unix_socket, tls: as for `SimulatedGateway`.
        overrides: settings of `SimulatorConfig` to change, e.g. `faults={"status-503": 0.1}`.
    """
    settings = _settings(config, overrides)
    gateway = SimulatedGateway(settings, host=host, port=port, unix_socket=unix_socket, tls=tls)
    with _loop_on_a_thread("simulated-gateway") as loop:
        _run(gateway.start, loop)
        handle = GatewayHandle(gateway, loop)
        try:
            yield handle
        finally:
            handle.stop()


class PoolHandle:
    """A simulated pool that runs on another thread. Every method may be called from any.

    Raises RuntimeError once its `with` block has ended.

    Attributes:
        url: of the picker, grpc://HOST:PORT, or grpcs:// with a certificate.
        health_port: of the picker's health service, None when there is none.
        pods: a handle on each pod's gateway, in the order of their names.
    """

    def __init__(self, pool: SimulatedPool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self.url = pool.url
        self.health_port = pool.picker.health_port
        self.pods = [GatewayHandle(pod.gateway, loop) for pod in pool.pods]

    @property
    def addresses(self) -> list[str]:
        """ "ip:port" of each pod, as the picker names them."""
        return [pod.address for pod in self._pool.pods]

    def decisions(self) -> list[Decision]:
        """What the picker decided until now, oldest first."""
        return self._call(self._pool.decisions)

    def clear_decisions(self) -> None:
        """Forget the decisions of the picker so far."""
        self._call(self._pool.picker.decisions.clear)

    def configure(self, **changes: Any) -> None:
        """Change settings of every pod. Raises ConfigError."""
        for pod in self.pods:
            pod.configure(**changes)

    def configure_picker(self, **changes: Any) -> None:
        """Change settings of the picker. Raises ConfigError."""
        self._call(lambda: self._pool.configure_picker(**changes))

    def withdraw(self, pod: int) -> None:
        """The picker no longer chooses this pod, which goes on serving."""
        self._call(lambda: self._pool.withdraw(pod))

    def restore(self, pod: int) -> None:
        """The picker chooses this pod again."""
        self._call(lambda: self._pool.restore(pod))

    def waiting_in_picker(self) -> int:
        """Requests in the picker's queue now."""
        return self._call(lambda: self._pool.picker.admission.waiting)

    def connections(self) -> int:
        """Connections that data planes have open to the picker now."""
        return self._call(lambda: self._pool.picker.connections)

    def send_away(self) -> None:
        """Send GOAWAY on every connection to the picker; what is under way goes on."""
        self._call(self._pool.picker.go_away)

    def drain_picker(self) -> None:
        """The picker refuses what waits and what comes until `start_picker`."""
        self._call(self._pool.picker.drain)

    def stop_picker(self) -> None:
        """The picker goes away; the pods go on."""
        _run(self._pool.picker.stop, self._loop)

    def start_picker(self) -> None:
        """The picker comes back on the same port."""
        _run(self._pool.picker.start, self._loop)

    def stop(self) -> None:
        """Stop the picker and every pod."""
        _run(self._pool.stop, self._loop)

    def start(self) -> None:
        """All of it comes back on the same ports."""
        _run(self._pool.start, self._loop)

    def _call(self, function: Callable[[], _T]) -> _T:
        return _on_loop(function, self._loop)


@contextmanager
def simulated_pool(
    pods: int = 4,
    config: SimulatorConfig | None = None,
    picker: PickerConfig | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    picker_port: int = 0,
    health_port: int | None = None,
    **overrides: Any,
) -> Generator[PoolHandle]:
    """Run simulated pods behind a simulated endpoint picker until the block ends.

    Args:
        pods: how many.
        config: how each pod behaves; `SimulatorConfig.instant()` by default.
        picker: how the picker chooses.
        host, port, picker_port, health_port: as for `SimulatedPool`.
        overrides: settings of `SimulatorConfig` to change.

    Raises ConfigError when hpack and protobuf are missing: pip install 'batch-gateway[grpc]'.
    """
    settings = _settings(config, overrides)
    pool = SimulatedPool(
        pods,
        settings,
        picker,
        host=host,
        port=port,
        picker_port=picker_port,
        health_port=health_port,
    )
    with _loop_on_a_thread("simulated-pool") as loop:
        _run(pool.start, loop)
        handle = PoolHandle(pool, loop)
        try:
            yield handle
        finally:
            handle.stop()


@contextmanager
def _loop_on_a_thread(name: str) -> Generator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_WAIT_SECONDS)
        loop.close()


def _settings(config: SimulatorConfig | None, overrides: Mapping[str, Any]) -> SimulatorConfig:
    require_kind("config", config, SimulatorConfig | None)
    return (config or SimulatorConfig.instant()).with_changes(**overrides)


def _run(main: Callable[[], Coroutine[Any, Any, _T]], loop: asyncio.AbstractEventLoop) -> _T:
    if loop.is_closed():
        raise RuntimeError("what was simulated ended with its 'with' block; use it inside")
    return asyncio.run_coroutine_threadsafe(main(), loop).result(_WAIT_SECONDS)


def _on_loop(function: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> _T:
    async def on_loop() -> _T:
        return function()

    return _run(on_loop, loop)
