"""What a client of a gateway says of it: its name, and which headers of a batch it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.interfaces.request import InferenceClient

__all__ = ["events_of", "gateway_of", "passed_headers"]


def gateway_of(client: InferenceClient) -> str:
    """What observers call the gateway of `client`."""
    return next((events.gateway for events in events_of([client])), "")


def events_of(clients: Iterable[InferenceClient | None]) -> Sequence[GatewayEvents]:
    """What is known of the gateways of these clients, of each once."""
    found = (getattr(client, "events", None) for client in clients)
    return list(dict.fromkeys(events for events in found if events is not None))


def passed_headers(headers: Mapping[str, str], client: InferenceClient) -> Mapping[str, str]:
    """All but those in whose place `client` has a key of its own: a configured key wins."""
    config: Any = getattr(client, "config", None)
    if config is None or config.resolved_api_key() is None:
        return headers
    own = (config.api_key_header or "Authorization").lower()
    return {name: value for name, value in headers.items() if name.lower() != own}
