"""Connections to the pods that an endpoint picker chooses."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType

from batch_gateway.durations import seconds
from batch_gateway.errors import (
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    ServerError,
    StaleConnectionError,
    TLSError,
)
from batch_gateway.http.exchange import HTTPResponse, HTTPStream
from batch_gateway.http.native import NativeExchanger
from batch_gateway.http.stream_block import StreamBlock
from batch_gateway.http.tls import TLSConfig
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.picker.conversation import Choice
from batch_gateway.picker.detour import PodsUnreachableError
from batch_gateway.picker.encode import served_by
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.picker.pod_heads import PodHeads
from batch_gateway.picker.pod_table import PodTable
from batch_gateway.picker.shunned_pods import ShunnedPods
from batch_gateway.wire.refusals import (
    POD_FAILED,
    POD_UNREACHABLE,
    PODS_UNREACHABLE,
    is_connect_failure,
)

__all__ = ["Pod", "PodStream", "Pods"]

# A pod that cannot be connected to leaves time for others.
_CONNECTS_IN_AN_ATTEMPT = 3
# How many pods a picker is told to choose among when one of its own choice does not work.
_MOST_NAMED = 256
# How many reasons a message has room for.
_MOST_TOLD = 3
_OUR_OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE})


class Pod:
    """One pod's connections. `served` says in a message to the picker that it answered."""

    __slots__ = ("endpoint", "exchanger", "served")

    def __init__(self, endpoint: str, exchanger: NativeExchanger) -> None:
        self.endpoint = endpoint
        self.exchanger = exchanger
        self.served = served_by(endpoint)


PodStream = AbstractAsyncContextManager[tuple[Pod, HTTPStream]]


class _PodBlock(PodStream):
    """The block in which an answer is read, and who is told how the pod did."""

    def __init__(
        self,
        pod: Pod,
        block: StreamBlock,
        has_answered: Callable[[Pod], None],
        broke: Callable[[Pod, InferenceError], None],
    ) -> None:
        self._pod = pod
        self._block = block
        self._has_answered = has_answered
        self._broke = broke

    async def __aenter__(self) -> tuple[Pod, HTTPStream]:
        try:
            response = await self._block.__aenter__()
        except InferenceError as error:
            self._broke(self._pod, error)
            raise
        self._has_answered(self._pod)
        return self._pod, response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._block.__aexit__(kind, error, traceback)
        if isinstance(error, InferenceError):
            self._broke(self._pod, error)


class Pods:
    """Posts to the first pod of a choice that can be reached, and remembers which cannot.

    Args:
        config: limits and timeouts hold for each pod by itself; its headers and key do not go
            out by themselves, because the picker was told them and says what is to be sent.
        picker: how messages name the endpoint picker.
        told_authority: what it is told as the authority.

    Raises ConfigError when a certificate for them cannot be used.
    """

    def __init__(
        self,
        config: TransportConfig,
        settings: EndpointPickerConfig,
        picker: str,
        told_authority: str,
    ) -> None:
        self._connect_timeout = min(
            seconds(config.connect_timeout), seconds(config.timeout) / _CONNECTS_IN_AN_ATTEMPT
        )
        self._config = replace(
            config,
            base_url="http://pod",
            connect_timeout=self._connect_timeout,
            tls=TLSConfig(),
            api_key=None,
            api_key_file=None,
            api_key_env=None,
            headers=(),
        )
        # One for all of them: to load the system's authorities takes long.
        tls = settings.pod_tls
        self._context = None if tls is None else tls.ssl_context("pod_tls")
        self._scheme = "http" if tls is None else "https"
        self._picker = picker
        self._told = None if settings.authority is not None else told_authority
        self._known_names: set[str] = set()
        self._table: PodTable[Pod] = PodTable(
            most=settings.max_pods, idle_timeout=seconds(settings.pod_idle_timeout)
        )
        self._shunned = ShunnedPods()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered = False
        self._closed = False

    async def post(
        self, choice: Choice, deadline: float, tried: Container[str] = ()
    ) -> tuple[Pod, HTTPResponse]:
        """Who answered, and what. Of pods that do not work, those in `tried` are not tried again.

        Raises as `HTTPExchanger.post` does, and PodsUnreachableError.
        """
        endpoints = self._usable(choice.endpoints, tried)
        if len(endpoints) == 1:
            # With no other to fall back on, connecting first would only cost time.
            pod = self._take(endpoints[0])
        else:
            pod = await self._connected(choice.endpoints, endpoints, deadline)
        headers = choice.headers
        try:
            response = await pod.exchanger.post(
                headers.get(":path", ""), tuple(headers.items()), choice.body, deadline=deadline
            )
        except InferenceError as error:
            if _never_connected(error) and self._speaks_against(pod, error, deadline):
                raise self._none_of(choice.endpoints) from error
            self._broke(pod, error)
            raise
        finally:
            self.give_back(pod)
        self._has_answered(pod)
        return pod, response

    async def reach(self, choice: Choice, deadline: float, tried: Container[str] = ()) -> Pod:
        """The first pod that takes a connection, to be given back.

        Raises as `post` does; nothing was sent to any.
        """
        endpoints = self._usable(choice.endpoints, tried)
        return await self._connected(choice.endpoints, endpoints, deadline)

    def stream(
        self, pod: Pod, choice: Choice, *, deadline: float, begin_by: float, idle_timeout: float
    ) -> PodStream:
        """The same as `HTTPExchanger.stream` is to `post`, from a pod that was reached."""
        headers = choice.headers
        block = pod.exchanger.stream(
            headers.get(":path", ""),
            tuple(headers.items()),
            choice.body,
            deadline=deadline,
            begin_by=begin_by,
            idle_timeout=idle_timeout,
        )
        return _PodBlock(pod, block, self._has_answered, self._broke)

    def give_back(self, pod: Pod) -> None:
        """The request for which the pod was reached is over."""
        unwanted = self._table.give_back(pod.endpoint, pod)
        if unwanted:
            self._close(unwanted)

    def working(self) -> Sequence[str]:
        """The pods that are known and not shunned, those that were chosen last; not all of many."""
        problem = self._shunned.problem
        return [e for e in self._table.pods() if problem(e) is None][-_MOST_NAMED:]

    async def aclose(self) -> None:
        """Close every connection; requests under way are aborted."""
        self._closed = True
        self._close(self._table.clear())
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def known(self) -> dict[str, Pod]:
        """By endpoint."""
        return self._table.pods()

    # --- which pods to go to ---

    def _usable(self, named: Sequence[str], tried: Container[str]) -> Sequence[str]:
        """Those that are not shunned. While none is known to work, any that was not tried."""
        if not self._shunned.troubles:
            return named
        problem, now = self._shunned.problem, time.monotonic()
        usable = [endpoint for endpoint in named if problem(endpoint) is None]
        if not usable and not self.working():
            return [endpoint for endpoint in named if endpoint not in tried]
        for endpoint in named:
            if self._shunned.begin_probe(endpoint, now):
                self._run(self._probe(endpoint, now + self._connect_timeout))
        return usable

    async def _connected(self, named: Sequence[str], usable: Sequence[str], deadline: float) -> Pod:
        """The first of the `usable` that takes a connection, in use; nothing has been sent."""
        for endpoint in usable:
            pod = self._take(endpoint)
            try:
                await pod.exchanger.connect(deadline=deadline)
            except InferenceError as error:
                self.give_back(pod)
                if not self._speaks_against(pod, error, deadline):
                    raise
            except BaseException:
                self.give_back(pod)
                raise
            else:
                return pod
        raise self._none_of(named)

    async def _probe(self, endpoint: str, deadline: float) -> None:
        pod = self._take(endpoint)
        try:
            await pod.exchanger.connect(deadline=deadline)
        except InferenceError as error:
            self._shunned.unreachable(endpoint, error, time.monotonic())
        else:
            self._shunned.connected(endpoint)
        finally:
            self.give_back(pod)

    def _speaks_against(self, pod: Pod, error: InferenceError, deadline: float) -> bool:
        """Whether a failure to connect is the pod's, which is then shunned."""
        now, cause = time.monotonic(), error.cause
        if self._closed or now >= deadline or getattr(cause, "errno", None) in _OUR_OWN_LIMITS:
            return False
        self._table.drop(pod.endpoint, pod)
        self._shunned.unreachable(pod.endpoint, error, now)
        return True

    def _none_of(self, named: Sequence[str]) -> PodsUnreachableError:
        problem = self._shunned.problem
        found = ((endpoint, problem(endpoint)) for endpoint in named)
        return PodsUnreachableError({endpoint: why for endpoint, why in found if why is not None})

    def _has_answered(self, pod: Pod) -> None:
        self._answered = True
        if self._shunned.troubles:
            self._shunned.answered(pod.endpoint)

    def _broke(self, pod: Pod, error: InferenceError) -> None:
        """A request may have reached the pod, and its answer did not come."""
        if not isinstance(error, GatewayConnectionError) or self._closed:
            return
        self._suspect_tls(error)
        if not isinstance(error, StaleConnectionError):
            self._shunned.broke(pod.endpoint, error, time.monotonic())
        if any(endpoint != pod.endpoint for endpoint in self.working()):
            error.code = POD_FAILED

    def _take(self, endpoint: str) -> Pod:
        now = time.monotonic()
        expired = self._table.expire(now)
        if expired:
            self._close(expired)
        pod = self._table.take(endpoint, now)
        if pod is None:
            config = self._config.with_base_url(f"{self._scheme}://{endpoint}")
            heads = PodHeads(endpoint, self._told, self._known_names)
            pod = Pod(endpoint, NativeExchanger(config, heads=heads, context=self._context))
            self._close(self._table.add(endpoint, pod, now))
        return pod

    def _suspect_tls(self, error: GatewayConnectionError) -> None:
        """A server that expects TLS hangs up on whoever speaks without, and says nothing."""
        if self._context is None and not self._answered:
            error.message += "; if pods serve TLS, say so (endpoint_picker.pod_tls, --pod-tls)"
            error.args = (error.message,)

    def unreachable(self, problems: Mapping[str, InferenceError]) -> InferenceError:
        """What it means that no pod can be reached of all that the picker chose.

        While others work the gateway is there, and failed as a proxy does (503). Otherwise
        nobody is, as with a gateway that takes no connections.
        """
        last = list(problems.values())[-1]
        reasons = list(dict.fromkeys(problem.message for problem in problems.values()))
        more = f"; and {len(reasons) - _MOST_TOLD} more" if len(reasons) > _MOST_TOLD else ""
        told = "; ".join(reasons[-_MOST_TOLD:]) + more
        message = f"{told} (chosen by the endpoint picker {self._picker})"
        if isinstance(last, TLSError) and not self._answered:
            return TLSError(message, cause=last.cause)
        if self.working():
            return ServerError(message, code=POD_UNREACHABLE, cause=last)
        if isinstance(last, RequestTimeoutError):
            return RequestTimeoutError(message, cause=last)
        return GatewayConnectionError(message, code=PODS_UNREACHABLE, cause=last.cause)

    def _close(self, pods: Sequence[Pod]) -> None:
        for pod in pods:
            self._run(pod.exchanger.aclose())

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _never_connected(error: InferenceError) -> bool:
    """Of a request: whether it cannot have been sent, for want of a connection."""
    timed_out = isinstance(error, RequestTimeoutError) and isinstance(error.cause, TimeoutError)
    return timed_out or is_connect_failure(error)
