"""A gateway's client for one shard, whose answers somebody counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batch_gateway.client.interfaces.request import (
    InferenceClient,
    InferenceRequest,
    InferenceResponse,
)
from batch_gateway.clock import Clock
from batch_gateway.engine.sending import ClientFor
from batch_gateway.errors import InferenceError
from batch_gateway.service.gateway_clients import gateway_of

__all__ = ["Answer", "TellOfAnswer", "WatchedClient", "watched"]

Answer = InferenceResponse | InferenceError

TellOfAnswer = Callable[[str, InferenceRequest, Answer, float], None]
"""Called with the name of a gateway, a request, what came of it and the seconds that it took, once
for each that was not aborted."""


class WatchedClient:
    """Tells of answers; in all else it is the client that it was made from."""

    def __init__(self, client: InferenceClient, tell: TellOfAnswer, clock: Clock) -> None:
        self._client, self._tell, self._clock = client, tell, clock
        self._gateway = gateway_of(client)

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        """As that of the client."""
        began = self._clock.monotonic()
        try:
            response = await self._client.generate(request)
        except InferenceError as error:
            self._tell(self._gateway, request, error, self._clock.monotonic() - began)
            raise
        self._tell(self._gateway, request, response, response.duration)
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def watched(client_for: ClientFor, tell: TellOfAnswer, clock: Clock) -> ClientFor:
    """As `client_for`, with one watched client for each of its."""
    made: dict[int, WatchedClient] = {}

    def watched_for(model: str) -> InferenceClient | None:
        client = client_for(model)
        if client is None:
            return None
        return made.setdefault(id(client), WatchedClient(client, tell, clock))

    return watched_for
