"""Several simulated pods with an endpoint picker in front of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from batch_gateway.config_checks import require_count, require_kind, require_port
from batch_gateway.errors import ConfigError
from batch_gateway.extras import command_for
from batch_gateway.simulator.picker.decisions import Decision
from batch_gateway.simulator.picker.picker_config import PickerConfig
from batch_gateway.simulator.simulated_gateway import SimulatedGateway, reachable_address
from batch_gateway.simulator.simulator_config import SimulatorConfig

if TYPE_CHECKING:
    from batch_gateway.simulator.picker.picker_server import PickerServer

__all__ = ["SimulatedPod", "SimulatedPool"]

PREFIX_CACHE_TOKENS = 131_072
"""Of each pod of a pool: what is left of a 24 GB card's memory beside a 7B model."""


DECISIONS_PATH = "/simulator/decisions"
"""Where each pod says what the picker decided."""


class SimulatedPod:
    """One model server of a pool, under its name."""

    def __init__(self, name: str, gateway: SimulatedGateway) -> None:
        self.name = name
        self.gateway = gateway

    @property
    def address(self) -> str:
        return self.gateway.address

    @property
    def running(self) -> int:
        return self.gateway.running

    @property
    def waiting(self) -> int:
        return self.gateway.waiting

    @property
    def kv_usage(self) -> float:
        return self.gateway.kv_usage


class SimulatedPool:
    """Pods and their picker, on 127.0.0.1 or wherever they are told.

        async with SimulatedPool(pods=4, config=SimulatorConfig.instant()) as pool:
            ...  # pool.url is grpc://127.0.0.1:PORT, pool.decisions() what it decided

    Args:
        pods: how many.
        config: how each pod behaves; its `objectives` are the picker's too. With more than one
            pod, a prefix cache of 131,072 tokens is switched on in each unless `config` has one.
        picker: how the picker chooses.
        host: where all of them listen.
        port: of the first pod, the others follow it; 0 takes free ones.
        picker_port: of the picker; 0 takes a free one.
        health_port: of the picker's health service; 0 takes a free one, None has none.

    Raises ConfigError for what cannot be any of these.
    """

    def __init__(
        self,
        pods: int = 4,
        config: SimulatorConfig | None = None,
        picker: PickerConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        picker_port: int = 0,
        health_port: int | None = None,
    ) -> None:
        require_count("pods", pods, minimum=1)
        require_kind("config", config, SimulatorConfig | None)
        require_kind("picker", picker, PickerConfig | None)
        require_port("picker_port", picker_port)
        if health_port is not None:
            require_port("health_port", health_port)
        settings = config or SimulatorConfig()
        if pods > 1 and not settings.prefix_cache_tokens:
            settings = settings.with_changes(prefix_cache_tokens=PREFIX_CACHE_TOKENS)
        self.pods = [
            _pod(f"pod-{number}", settings, host, port + number if port else 0)
            for number in range(pods)
        ]
        self._settings = settings
        self._picker_config = picker or PickerConfig()
        self._host = host
        self._picker_port = picker_port
        self._health_port = health_port
        self._picker: PickerServer | None = None

    async def __aenter__(self) -> SimulatedPool:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises OSError when an address cannot be had, ConfigError without the extra."""
        if self._picker is None:
            self._picker = self._new_picker()
        async with AsyncExitStack() as undo:
            for pod in self.pods:
                await pod.gateway.start()
                undo.push_async_callback(pod.gateway.stop)
                pod.gateway.add_page(DECISIONS_PATH, self._picker.decisions.snapshot)
            undo.push_async_callback(self._picker.stop)
            await self._picker.start()
            undo.pop_all()

    async def stop(self) -> None:
        """Stop listening and break everything off. The decisions stay readable."""
        if self._picker is not None:
            await self._picker.stop()
        for pod in self.pods:
            await pod.gateway.stop()

    # -- where it is, what it decided ------------------------------------------------------

    @property
    def picker(self) -> PickerServer:
        """The picker alone, to stop it and start it again. Raises RuntimeError before `start`."""
        if self._picker is None:
            raise RuntimeError("the simulated pool was not started")
        return self._picker

    @property
    def url(self) -> str:
        """The gateway URL for clients that speak to the picker."""
        scheme = "grpcs" if self.picker.secure else "grpc"
        return f"{scheme}://{reachable_address(self._host, self.picker.port)}"

    def decisions(self) -> list[Decision]:
        """Copies of what it decided until now, oldest first."""
        return self.picker.decisions.copies()

    # -- changes ---------------------------------------------------------------------------

    def configure_picker(self, **changes: Any) -> None:
        """Change settings of the picker while it runs, but for certificates. Raises ConfigError."""
        fixed = sorted(name for name in changes if name.startswith("tls_"))
        if fixed:
            raise ConfigError(fixed[0], "cannot change while the picker runs")
        self.picker.configure(self.picker.config.with_changes(**changes))

    def withdraw(self, pod: int) -> None:
        """The picker no longer chooses this pod, which goes on serving. Raises ConfigError."""
        gone = self._pod(pod)
        self.picker.chooser.pods = [p for p in self.picker.chooser.pods if p != gone]

    def restore(self, pod: int) -> None:
        """The picker chooses this pod again. Raises ConfigError."""
        kept = {p.name for p in self.picker.chooser.pods} | {self._pod(pod).name}
        self.picker.chooser.pods = [p for p in self.pods if p.name in kept]

    def _pod(self, number: int) -> SimulatedPod:
        require_count("pod", number, minimum=0)
        if number >= len(self.pods):
            raise ConfigError("pod", f"there is no {number}; the last is {len(self.pods) - 1}")
        return self.pods[number]

    def _new_picker(self) -> PickerServer:
        try:
            from batch_gateway.simulator.picker.picker_server import PickerServer  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                "picker",
                f"the simulated picker needs hpack and protobuf: {command_for('grpc')}",
            ) from error
        return PickerServer(
            self._picker_config,
            list(self.pods),
            self._settings.objectives,
            host=self._host,
            port=self._picker_port,
            health_port=self._health_port,
        )


def _pod(name: str, config: SimulatorConfig, host: str, port: int) -> SimulatedPod:
    settings = config.with_changes(pod_name=name)
    return SimulatedPod(name, SimulatedGateway(settings, host=host, port=port))
