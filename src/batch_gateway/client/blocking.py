"""The async client for code without an event loop: the same object on a portal thread."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from batch_gateway.client.interfaces.request import (
    InferenceClient,
    InferenceResponse,
    RequestLike,
)
from batch_gateway.client.streaming.stream import InferenceStream
from batch_gateway.errors import ConfigError
from batch_gateway.wire.chunks import Chunk

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["BlockingInferenceClient"]

T = TypeVar("T")


class ClosableClient(
    InferenceClient, AbstractAsyncContextManager["ClosableClient", None], Protocol
):
    """A client that is also an async context manager, and that streams."""

    async def generate(self, request: RequestLike) -> InferenceResponse: ...

    def stream(self, request: RequestLike) -> InferenceStream: ...


class BlockingInferenceClient:
    """`generate` as an ordinary call. Any number of threads may call it at once.

    Use it as a context manager, once. Leaving it ends the thread and closes the client for good.
    """

    def __init__(self, client: ClosableClient) -> None:
        if isinstance(client, type) or not hasattr(client, "__aenter__"):
            given = client.__name__ if isinstance(client, type) else type(client).__name__
            raise ConfigError(
                "client",
                f"must be a client, not {given}; write HTTPInferenceClient(config).blocking()",
            )
        self._client = client
        self._portal: BlockingPortal | None = None
        self._left = False
        self._process = 0
        self._resources = ExitStack()

    def generate(self, request: RequestLike) -> InferenceResponse:
        """As the async `generate`. An interrupt (Ctrl-C) aborts the HTTP request.

        Raises RuntimeError outside the context manager, and in a process that was forked within it.
        """
        return _result(self._open_portal().start_task_soon(self._client.generate, request))

    def stream(self, request: RequestLike) -> Generator[Chunk]:
        """The answer chunk by chunk, as the async `stream` gives it; an interrupt closes it.

        Raises RuntimeError outside the context manager.
        """
        return self._chunks(self._open_portal().call(self._client.stream, request))

    def _chunks(self, stream: InferenceStream) -> Generator[Chunk]:
        try:
            while (chunk := self._next_of(stream)) is not None:
                yield chunk
        finally:
            # Left in the middle after the client was closed: its request ended with the client. In
            # a forked child it goes on in the parent.
            if self._portal is not None and self._is_at_home:
                with suppress(RuntimeError):
                    self._portal.call(stream.aclose)

    def _next_of(self, stream: InferenceStream) -> Chunk | None:
        return _result(self._open_portal().start_task_soon(_next_of, stream))

    def _open_portal(self) -> BlockingPortal:
        if self._portal is not None and not self._is_at_home:
            raise RuntimeError(
                "this blocking client was opened before the process forked, and its thread stayed"
                " in the parent; make a new client in the child"
            )
        if self._portal is None:
            closed = ", which has closed it; make a new client" if self._left else ""
            raise RuntimeError(f"use the blocking client inside its 'with' block{closed}")
        return self._portal

    @property
    def _is_at_home(self) -> bool:
        """Whether this is the process whose thread runs the client. A fork copies no threads."""
        return os.getpid() == self._process

    def __enter__(self) -> Self:
        """Raises RuntimeError the second time."""
        if self._portal is not None:
            raise RuntimeError("the blocking client is in its 'with' block already; use that one")
        if self._left:
            raise RuntimeError("the blocking client's 'with' block closed it; make a new client")
        # Who has an event loop needs none of it.
        from anyio.from_thread import start_blocking_portal  # noqa: PLC0415

        with ExitStack() as opened:
            use_uvloop = importlib.util.find_spec("uvloop") is not None
            portal = opened.enter_context(
                start_blocking_portal("asyncio", backend_options={"use_uvloop": use_uvloop})
            )
            opened.enter_context(portal.wrap_async_context_manager(self._client))
            self._portal, self._process = portal, os.getpid()
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        at_home = self._is_at_home
        self._portal = None
        self._left = True
        if at_home:
            self._resources.close()


async def _next_of(stream: InferenceStream) -> Chunk | None:
    return await anext(stream, None)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    finally:
        # Does nothing to a finished future; an interrupted wait must not leave it running.
        future.cancel()
