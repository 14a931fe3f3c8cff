"""The picker as a server: its port, the port of its health, and what all of its calls share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from batch_gateway.durations import seconds
from batch_gateway.simulator.faults import drawn_spec
from batch_gateway.simulator.picker.chooser import Pod, PodChooser
from batch_gateway.simulator.picker.decisions import Decisions
from batch_gateway.simulator.picker.picker_admission import Admission
from batch_gateway.simulator.picker.picker_config import PickerConfig
from batch_gateway.simulator.picker.picker_health import health_check
from batch_gateway.simulator.picker.rpc.listener import RpcListener
from batch_gateway.simulator.picker.rpc.rpc_connection import Handler
from batch_gateway.simulator.picker.rpc.rpc_limits import ConnectionLimits
from batch_gateway.simulator.picker.rpc.served_call import Call, CallError
from batch_gateway.simulator.picker.served_conversation import converse
from batch_gateway.simulator.server_tls import server_context
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingRequest, ProcessingResponse
from batch_gateway.wire.ext_proc.names import HEALTH_METHOD, PROCESS_METHOD
from batch_gateway.wire.http2.grpc_status import StatusCode

__all__ = ["PickerServer"]


class PickerServer:
    """Serves one picker until it is stopped; it may be started again on the same ports."""

    def __init__(
        self,
        config: PickerConfig,
        pods: Sequence[Pod],
        objectives: Mapping[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        health_port: int | None = None,
    ) -> None:
        self.config = config
        self.objectives = objectives
        self.chooser = PodChooser(config, pods)
        self.admission = Admission(config, self.chooser)
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self.decisions = Decisions(config.decisions_limit)
        tls = server_context(config.tls_certificate, config.tls_key, config.tls_client_ca)
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self.secure = tls is not None
        self._listener = RpcListener({}, host=host, port=port, tls=tls)
        # As in the real one, the port of the health is never secured.
        self._health = RpcListener({HEALTH_METHOD: self._check}, host=host, port=health_port or 0)
        self._serves_health = health_port is not None
        self._apply(config)

    # -- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises OSError when an address cannot be had."""
        self.admission.open()
        await self._listener.start()
        if self._serves_health:
            await self._health.start()

    async def stop(self) -> None:
        """Stop listening and break every stream off. The decisions stay readable."""
        self.admission.drain()
        await self._listener.stop()
        await self._health.stop()

    def drain(self) -> None:
        """Refuse what waits and what comes, until the next `start`; what is under way goes on."""
        self.admission.drain()

    def go_away(self) -> None:
        """Ask every data plane to open a new connection."""
        self._listener.go_away()

    # -- where it is, how it behaves -------------------------------------------------------

    @property
    def port(self) -> int:
        """Where it listens; what it was given before its first start."""
        return self._listener.port

    @property
    def health_port(self) -> int | None:
        """Where its health is served in the clear; None when it is not."""
        return self._health.port if self._serves_health else None

    @property
    def connections(self) -> int:
        """Connections of data planes that are open now."""
        return self._listener.connections

    def configure(self, config: PickerConfig) -> None:
        """Take over changed settings; they hold for requests and connections from now on."""
        self.config = config
        self.chooser.config = config
        self.admission.configure(config)
        self.decisions.resize(config.decisions_limit)
        self._apply(config)

    def _apply(self, config: PickerConfig) -> None:
        handlers: dict[str, Handler] = {PROCESS_METHOD: self._process}
        if config.health_on_picker_port:
            handlers[HEALTH_METHOD] = self._check
        self._listener.handlers = handlers
        self._listener.limits = ConnectionLimits(
            config.max_concurrent_streams,
            config.max_connection_streams,
            None if config.max_connection_age is None else seconds(config.max_connection_age),
            seconds(config.ping_interval),
        )

    # -- for conversations -----------------------------------------------------------------

    def attempt(self, request_id: str) -> int:
        """Count a conversation with this id; returns which it is, from 1."""
        attempt = self._attempts.pop(request_id, 0) + 1
        self._attempts[request_id] = attempt
        while len(self._attempts) > self.config.decisions_limit:
            self._attempts.popitem(last=False)
        return attempt

    def drawn_fault(self, request_id: str, attempt: int) -> str | None:
        """The fault that chance gives this attempt."""
        return drawn_spec(self.config.faults, self.config.seed, request_id, attempt)

    # -- calls -----------------------------------------------------------------------------

    async def _process(self, call: Call) -> None:
        await converse(self, _Messages(call))

    async def _check(self, call: Call) -> None:
        await health_check(call, lambda: bool(self.chooser.pods) and not self.admission.draining)


class _Messages:
    """A `MessageStream` on a gRPC call."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def read(self) -> ProcessingRequest | None:
        data = await self._call.read()
        if data is None:
            return None
        try:
            return ProcessingRequest.FromString(data)
        except DecodeError as error:
            raise CallError(StatusCode.INTERNAL, "grpc: failed to unmarshal the message") from error

    async def write(self, message: ProcessingResponse) -> None:
        await self._call.write(message.SerializeToString())

    def reset(self, code: int) -> None:
        self._call.reset(code)

    def reset_connection(self) -> None:
        self._call.connection.break_off()

    def go_away(self, code: int) -> None:
        self._call.connection.go_away(code)
