"""Connections to the pods that an endpoint picker chooses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from batch_gateway.client.circuit_breaker import is_connect_failure
from batch_gateway.client.config import HTTPInferenceClientConfig, TLSConfig
from batch_gateway.client.endpoint_picker.config import EndpointPickerConfig
from batch_gateway.client.endpoint_picker.conversation import Choice
from batch_gateway.client.endpoint_picker.encode import served_by
from batch_gateway.client.endpoint_picker.pod_heads import PodHeads
from batch_gateway.client.endpoint_picker.pod_table import PodTable
from batch_gateway.client.http.exchange import HTTPResponse, HTTPStream
from batch_gateway.client.http.native import NativeExchanger
from batch_gateway.durations import seconds
from batch_gateway.errors import (
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    ServerError,
    TLSError,
)

__all__ = ["Pod", "Pods"]


class Pod:
    """One pod's connections. `served` says in a message to the picker that it answered."""

    __slots__ = ("endpoint", "exchanger", "served")

    def __init__(self, endpoint: str, exchanger: NativeExchanger) -> None:
        self.endpoint = endpoint
        self.exchanger = exchanger
        self.served = served_by(endpoint)


class Pods:
    """Posts to the first pod of a choice that can be reached.

    Args:
        config: limits and timeouts hold for each pod by itself; its headers and key do not go
            out by themselves, because the picker was told them and says what is to be sent.
        picker: how messages name the endpoint picker.
        told_authority: what it is told as the authority.

    Raises ConfigError when a certificate for them cannot be used.
    """

    def __init__(
        self,
        config: HTTPInferenceClientConfig,
        settings: EndpointPickerConfig,
        picker: str,
        told_authority: str,
    ) -> None:
        self._config = replace(
            config,
            base_url="http://pod",
            tls=TLSConfig(),
            api_key=None,
            api_key_file=None,
            api_key_env=None,
            headers=(),
            transport="native",
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
        self._closing: set[asyncio.Task[None]] = set()
        self._answered = False
        self._closed = False

    async def post(self, choice: Choice, deadline: float) -> tuple[Pod, HTTPResponse]:
        """Who answered, and what. Raises as `HTTPExchanger.post` does."""
        if len(choice.endpoints) == 1:
            # With no other to fall back on, connecting first would only cost time.
            pod = self._take(choice.endpoints[0])
        else:
            pod = await self._reach(choice, deadline)
        headers = choice.headers
        try:
            response = await pod.exchanger.post(
                headers.get(":path", ""), tuple(headers.items()), choice.body, deadline=deadline
            )
        except GatewayConnectionError as error:
            if not is_connect_failure(error):
                self._suspect_tls(error)
                raise
            self._table.drop(pod.endpoint, pod)
            raise self._unreachable([error]) from error
        finally:
            self._give_back(pod)
        self._answered = True
        return pod, response

    @asynccontextmanager
    async def stream(
        self, choice: Choice, *, deadline: float, begin_by: float, idle_timeout: float
    ) -> AsyncGenerator[tuple[Pod, HTTPStream]]:
        """The same as `HTTPExchanger.stream` is to `post`."""
        pod = await self._reach(choice, min(deadline, begin_by))
        headers = choice.headers
        try:
            async with pod.exchanger.stream(
                headers.get(":path", ""),
                tuple(headers.items()),
                choice.body,
                deadline=deadline,
                begin_by=begin_by,
                idle_timeout=idle_timeout,
            ) as response:
                self._answered = True
                yield pod, response
        except GatewayConnectionError as error:
            self._suspect_tls(error)
            raise
        finally:
            self._give_back(pod)

    async def aclose(self) -> None:
        """Close every connection; requests under way are aborted."""
        self._closed = True
        self._close(self._table.clear())
        while self._closing:
            await asyncio.wait(self._closing)

    @property
    def known(self) -> dict[str, Pod]:
        """By endpoint."""
        return self._table.pods()

    async def _reach(self, choice: Choice, deadline: float) -> Pod:
        """The first pod that takes a connection, in use; nothing has been sent to any."""
        problems: list[InferenceError] = []
        for endpoint in choice.endpoints:
            pod = self._take(endpoint)
            try:
                await pod.exchanger.connect(deadline=deadline)
            except InferenceError as error:
                self._table.drop(endpoint, pod)
                self._give_back(pod)
                if self._closed:
                    raise
                problems.append(error)
                if time.monotonic() >= deadline:
                    break
            except BaseException:
                self._give_back(pod)
                raise
            else:
                return pod
        raise self._unreachable(problems)

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

    def _give_back(self, pod: Pod) -> None:
        unwanted = self._table.give_back(pod.endpoint, pod)
        if unwanted:
            self._close(unwanted)

    def _suspect_tls(self, error: GatewayConnectionError) -> None:
        """A server that expects TLS hangs up on whoever speaks without, and says nothing."""
        if self._context is None and not self._answered and not self._closed:
            error.message += "; if pods serve TLS, say so (endpoint_picker.pod_tls, --pod-tls)"
            error.args = (error.message,)

    def _unreachable(self, problems: Sequence[InferenceError]) -> InferenceError:
        """What a choice of pods that cannot be connected to means.

        As behind a proxy it is a failed answer of the gateway (503) and not a gateway that is
        gone: another choice may be a good one.
        """
        last = problems[-1]
        reasons = "; ".join(dict.fromkeys(problem.message for problem in problems))
        message = f"{reasons} (chosen by the endpoint picker {self._picker})"
        if isinstance(last, RequestTimeoutError):
            return RequestTimeoutError(message, cause=last)
        if isinstance(last, TLSError):
            return TLSError(message, cause=last)
        return ServerError(message, code="pod_unreachable", cause=last)

    def _close(self, pods: Sequence[Pod]) -> None:
        for pod in pods:
            task = asyncio.get_running_loop().create_task(pod.exchanger.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
