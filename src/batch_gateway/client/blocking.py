"""The async client for code without an event loop: the same object on a portal thread."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Protocol, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from batch_gateway.client.request import InferenceClient, InferenceRequest, InferenceResponse

__all__ = ["BlockingInferenceClient"]


class ClosableClient(
    InferenceClient, AbstractAsyncContextManager["ClosableClient", None], Protocol
):
    """A client that is also an async context manager."""


class BlockingInferenceClient:
    """`generate` as an ordinary call. Any number of threads may call it at once.

    Use it as a context manager. Leaving it ends the thread and closes the client's connections.
    """

    def __init__(self, client: ClosableClient) -> None:
        self._client = client
        self._portal: BlockingPortal | None = None
        self._resources = ExitStack()

    def generate(self, request: InferenceRequest) -> InferenceResponse:
        """As the async `generate`. An interrupt (Ctrl-C) aborts the HTTP request.

        Raises RuntimeError outside the context manager.
        """
        if self._portal is None:
            raise RuntimeError("use the blocking client inside its 'with' block")
        future = self._portal.start_task_soon(self._client.generate, request)
        try:
            return future.result()
        finally:
            # Does nothing to a finished future; an interrupted wait must not leave it running.
            future.cancel()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            use_uvloop = importlib.util.find_spec("uvloop") is not None
            portal = opened.enter_context(
                start_blocking_portal("asyncio", backend_options={"use_uvloop": use_uvloop})
            )
            opened.enter_context(portal.wrap_async_context_manager(self._client))
            self._portal = portal
            self._resources = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal = None
        self._resources.close()
