"""A gateway to test against: the simulator on a thread of its own, for code of any kind.

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
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from batch_gateway.simulator.config import SimulatorConfig
from batch_gateway.simulator.exchange import ReceivedRequest
from batch_gateway.simulator.gateway import SimulatedGateway

__all__ = ["GatewayHandle", "SimulatedGateway", "SimulatorConfig", "simulated_gateway"]

_T = TypeVar("_T")
_WAIT_SECONDS = 30.0


class GatewayHandle:
    """A simulated gateway that runs on another thread. Every method may be called from any."""

    def __init__(self, gateway: SimulatedGateway, loop: asyncio.AbstractEventLoop) -> None:
        self._gateway = gateway
        self._loop = loop
        self.url = gateway.url
        self.port = gateway.port
        self.unix_socket = gateway.unix_socket

    @property
    def config(self) -> SimulatorConfig:
        return self._gateway.config

    def journal(self) -> dict[str, Any]:
        """What it saw until now: totals, and `requests` by X-Request-ID."""
        return self._call(self._gateway.journal.snapshot)

    def recent_requests(self) -> list[ReceivedRequest]:
        """The last hundred inference requests as they came, oldest first."""
        return self._call(lambda: list(self._gateway.journal.recent))

    def clear_journal(self) -> None:
        self._call(self._gateway.journal.clear)

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace the probabilities of faults; {} ends them all."""
        self._call(lambda: self._gateway.set_faults(faults))

    def configure(self, **changes: Any) -> None:
        """Change any setting but the certificates. Raises ConfigError."""
        self._call(lambda: self._gateway.configure(**changes))

    def stop(self) -> None:
        """Go away: new connections are refused and open ones broken off."""
        asyncio.run_coroutine_threadsafe(self._gateway.stop(), self._loop).result(_WAIT_SECONDS)

    def start(self) -> None:
        """Come back on the same address."""
        asyncio.run_coroutine_threadsafe(self._gateway.start(), self._loop).result(_WAIT_SECONDS)

    def _call(self, function: Callable[[], _T]) -> _T:
        async def on_loop() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result(_WAIT_SECONDS)


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
    settings = (config or SimulatorConfig.instant()).with_changes(**overrides)
    gateway = SimulatedGateway(settings, host=host, port=port, unix_socket=unix_socket, tls=tls)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated-gateway", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(_WAIT_SECONDS)
        handle = GatewayHandle(gateway, loop)
        try:
            yield handle
        finally:
            handle.stop()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_WAIT_SECONDS)
        loop.close()
