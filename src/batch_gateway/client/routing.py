"""Models on different gateways, behind one client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from batch_gateway.client.blocking import BlockingInferenceClient
from batch_gateway.client.client import HTTPInferenceClient, gateway_name
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.instrumentation import Observer, printable_name
from batch_gateway.client.interfaces.request import (
    InferenceRequest,
    InferenceResponse,
    RequestLike,
    as_request,
)
from batch_gateway.client.model_routes import ModelRoutes
from batch_gateway.client.prepare import model_of
from batch_gateway.client.streaming.stream import InferenceStream
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.config_checks import require_kind
from batch_gateway.errors import ConfigError, InvalidRequestError

__all__ = ["MODEL_NOT_FOUND", "RoutedInferenceClient"]

MODEL_NOT_FOUND = "model_not_found"
_LONGEST_NAME = 100


class RoutedInferenceClient:
    """Sends each request to its model's gateway.

    Every gateway has a whole client of its own, with its own retry budget: one that is sick
    must not use up what a healthy one needs. Equal configurations share one client, and so one
    pool. A `*` in a name of `model_gateways` is any text: the gateway is that of all models whose
    names are so, but for those with an entry of their own or one that spells out more of the name.
    Models without a gateway of their own go to `default`. Each of `isolated_models` has a client
    that it shares with no other, whatever its gateway: its pace, breaker and limits then belong to
    the pool of servers that this model has behind the gateway.

    `observers` are told what happens at each gateway, under its base URL; gateways with one URL
    and different settings are numbered, and those of isolated models have the model's name behind.

    Raises ConfigError when there is neither a default nor a model, or `*` leaves nothing to the
    default.
    """

    def __init__(
        self,
        default: HTTPInferenceClientConfig | None,
        model_gateways: Mapping[str, HTTPInferenceClientConfig] | None = None,
        *,
        isolated_models: Sequence[str] = (),
        observers: Sequence[Observer] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        require_kind("default", default, HTTPInferenceClientConfig | None)
        require_kind("model_gateways", model_gateways, Mapping[str, Any] | None)
        routes = dict(model_gateways or {})
        for model, config in routes.items():
            require_kind("model_gateways", model, str)
            require_kind(f"model_gateways[{model!r}]", config, HTTPInferenceClientConfig)
        if default is None and not routes:
            raise ConfigError("model_gateways", "give a default gateway, or one for a model")
        if default is not None and "*" in routes:
            raise ConfigError(
                "model_gateways['*']",
                "takes every model, and so does the default gateway; leave one of them out",
            )
        require_kind("isolated_models", isolated_models, Sequence[str])
        clients: dict[tuple[HTTPInferenceClientConfig, str], HTTPInferenceClient] = {}
        names = Counter[str]()

        def client(config: HTTPInferenceClientConfig, alone: str = "") -> HTTPInferenceClient:
            if (config, alone) not in clients:
                name = gateway_name(config)
                if alone:
                    name = f"{name} ({printable_name(alone, _LONGEST_NAME)})"
                names[name] += 1
                if names[name] > 1:
                    name = f"{name} ({names[name]})"
                clients[config, alone] = HTTPInferenceClient(
                    config, observers=observers, gateway=name, clock=clock
                )
            return clients[config, alone]

        self._default = None if default is None else client(default)
        self._known_models = tuple(routes)
        configs = ModelRoutes(routes)
        for model in isolated_models:
            config = configs.of(model) or default
            if config is not None:
                routes[model] = config
        isolated = frozenset(isolated_models)
        self._routes = ModelRoutes(
            {
                model: client(config, model if model in isolated else "")
                for model, config in routes.items()
            }
        )
        self._clients = tuple(clients.values())

    @property
    def clients(self) -> tuple[HTTPInferenceClient, ...]:
        """One a distinct gateway."""
        return self._clients

    def client_for(self, model: str) -> HTTPInferenceClient | None:
        """The client of the model's gateway, None when there is none and no default."""
        return self._routes.of(model) or self._default

    async def generate(self, request: RequestLike) -> InferenceResponse:
        """As `HTTPInferenceClient.generate`, on the model's gateway.

        Raises InvalidRequestError with code `model_not_found` for a model without a gateway.
        """
        request = as_request(request)
        return await self._routed(request).generate(request)

    def stream(self, request: RequestLike) -> InferenceStream:
        """As `HTTPInferenceClient.stream`, on the model's gateway.

        Raises InvalidRequestError with code `model_not_found` for a model without a gateway.
        """
        request = as_request(request)
        return self._routed(request).stream(request)

    def _routed(self, request: InferenceRequest) -> HTTPInferenceClient:
        model = model_of(request)
        client = self.client_for(model)
        if client is None:
            raise InvalidRequestError(
                f"no gateway serves the model {model!r}; known: {', '.join(self._known_models)}",
                code=MODEL_NOT_FOUND,
                request_id=request.request_id,
            )
        return client

    def blocking(self) -> BlockingInferenceClient:
        """This client for code without an event loop; use the result as a context manager."""
        return BlockingInferenceClient(self)

    async def aclose(self) -> None:
        """Close the connections to every gateway, even if closing one fails."""
        async with AsyncExitStack() as stack:
            for client in self._clients:
                stack.push_async_callback(client.aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
