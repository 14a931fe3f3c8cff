"""Where the lines of a batch go: from what a program says of its gateways to clients of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from batch_gateway.client.blocking import BlockingInferenceClient
from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import MOST_CONCURRENCY, paced, patient_breaker
from batch_gateway.client.interfaces.instrumentation import Observer
from batch_gateway.client.interfaces.request import InferenceClient
from batch_gateway.client.layers.concurrency.policy import FixedConcurrency
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.client.model_routes import is_pattern
from batch_gateway.client.routing import RoutedInferenceClient
from batch_gateway.config_checks import require_count, require_kind
from batch_gateway.durations import Duration, parse_duration
from batch_gateway.errors import ConfigError
from batch_gateway.http.base_url import DEFAULT_BASE_URL
from batch_gateway.runs.isolated_models import keep_apart
from batch_gateway.runs.open_files import open_files_limit, taken_files

__all__ = ["SIMULATOR", "Clients", "Concurrency", "GatewayLike", "Routing", "gateways_of"]

SIMULATOR = "simulator"

GatewayLike = str | HTTPInferenceClientConfig | InferenceClient
"""A URL, a configuration, a client that stays open, or "simulator" for one in this process."""

Concurrency = int | Literal["auto"]


@dataclass(frozen=True)
class Clients:
    """The clients of a batch while it runs.

    Attributes:
        client_for: the one of a model, or None.
        all: one a gateway, as far as they are the package's own.
    """

    client_for: Callable[[str], InferenceClient | None]
    all: tuple[HTTPInferenceClient, ...]

    def of_models(self, models: Sequence[str]) -> list[HTTPInferenceClient]:
        """Those that lines of these models go to."""
        used = {id(self.client_for(model)) for model in models}
        return [client for client in self.all if id(client) in used]


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Routing whose configurations are ready for a batch.

    Attributes:
        default: of models that have none of their own.
        by_model: of the others.
        client: a client that takes the place of both, and is not closed.
        is_simulated: `default` is to be given the address of a simulator that ends with the batch.
        isolate_models: each model has a pace, a breaker and limits of its own.
    """

    default: HTTPInferenceClientConfig | None = None
    by_model: Mapping[str, HTTPInferenceClientConfig] = field(
        default_factory=dict[str, HTTPInferenceClientConfig]
    )
    client: InferenceClient | None = None
    is_simulated: bool = False
    isolate_models: bool = False

    @property
    def models(self) -> Sequence[str]:
        """Those with a gateway of their own that are known by name."""
        return [name for name in self.by_model if not is_pattern(name)]

    def of_service(self, concurrency: int | None) -> Routing:
        """For clients that many batches share, with at most so many requests at each gateway."""
        adapted = partial(_of_service, concurrency=concurrency)
        default = self.default
        return replace(
            self,
            default=None if default is None else adapted(default),
            by_model={model: adapted(one) for model, one in self.by_model.items()},
        )

    @asynccontextmanager
    async def opened(
        self, models: Sequence[str] = (), observers: Sequence[Observer] = ()
    ) -> AsyncGenerator[Clients]:
        """The clients, which are closed at the end; `models` are those of the batch.

        Raises ConfigError.
        """
        if self.client is not None:
            yield _given(self.client)
            return
        async with AsyncExitStack() as stack:
            default, routes = self.default, self.by_model
            if self.is_simulated and default is not None:
                default = default.with_base_url(await _simulator_url(stack))
            isolated = list(models) if self.isolate_models else []
            if isolated:
                routes, default = keep_apart(isolated, default, routes), None
            client = RoutedInferenceClient(
                default, routes, isolated_models=isolated, observers=observers
            )
            await stack.enter_async_context(client)
            yield Clients(client.client_for, client.clients)


def _of_service(
    config: HTTPInferenceClientConfig, concurrency: int | None
) -> HTTPInferenceClientConfig:
    limit = config.concurrency if concurrency is None else FixedConcurrency(concurrency)
    breaker = config.circuit_breaker
    if breaker is not None:
        # Batches outlast whoever mends the gateway, be it one that never answered yet.
        breaker = replace(breaker, after_success=False)
    return replace(config, concurrency=limit, circuit_breaker=breaker)


def _given(client: InferenceClient) -> Clients:
    if isinstance(client, RoutedInferenceClient):
        return Clients(client.client_for, client.clients)
    own = (client,) if isinstance(client, HTTPInferenceClient) else ()
    return Clients(lambda model: client, own)


async def _simulator_url(stack: AsyncExitStack) -> str:
    """Start a simulated gateway, which ends with `stack`."""
    # Loading it takes as long as a tenth of a start, and most runs have a gateway.
    from batch_gateway.simulator.simulated_gateway import SimulatedGateway  # noqa: PLC0415
    from batch_gateway.simulator.simulator_config import SimulatorConfig  # noqa: PLC0415

    simulator = SimulatedGateway(SimulatorConfig.small_gpu())
    await stack.enter_async_context(simulator)
    return simulator.url


def gateways_of(
    gateway: GatewayLike | Routing | None,
    model_gateways: Mapping[str, str | HTTPInferenceClientConfig] | None = None,
    *,
    api_key: str | None = None,
    concurrency: Concurrency = "auto",
    max_retries: int | None = None,
    timeout: Duration | None = None,
    patience: Duration | None = None,
    isolate_models: bool = False,
    has_deadline: bool = False,
) -> Routing:
    """What the arguments of a batch come to. Raises ConfigError."""
    if isinstance(gateway, Routing):
        return gateway
    of_urls: dict[str, Any] = {"api_key": api_key, "max_retries": max_retries, "timeout": timeout}
    given = {name: value for name, value in of_urls.items() if value is not None}
    if gateway is not None and not isinstance(gateway, str | HTTPInferenceClientConfig):
        _require_client(gateway)
        _refuse_beside_a_client(
            {"model_gateways": model_gateways, "patience": patience, **given}, isolate_models
        )
        return Routing(client=gateway)
    require_kind("model_gateways", model_gateways, Mapping[str, Any] | None)
    routes = dict(model_gateways or {})
    if gateway is None and not routes:
        raise ConfigError(
            "gateway", "is missing; give a URL such as 'http://localhost:8000', or 'simulator'"
        )
    both = [*routes.values(), *([] if gateway is None else [gateway])]
    if given and not any(isinstance(one, str) for one in both):
        raise ConfigError(
            next(iter(given)), "is for gateways given as URLs; set it in the configuration"
        )
    if has_deadline:
        # Routing that schedule by it are told the time that is left.
        given["scheduling"] = SchedulingHints()
    configure = _Configure(given, patience, concurrency, len(set(both)), gateway == SIMULATOR)
    return Routing(
        default=None if gateway is None else configure("gateway", gateway),
        by_model={m: configure(f"model_gateways[{m!r}]", one) for m, one in routes.items()},
        is_simulated=gateway == SIMULATOR,
        isolate_models=isolate_models,
    )


def _require_client(gateway: object) -> None:
    if isinstance(gateway, BlockingInferenceClient):
        raise ConfigError("gateway", "is a blocking client; give the client it was made from")
    if not isinstance(gateway, InferenceClient) or isinstance(gateway, type):
        raise ConfigError(
            "gateway", "must be a URL, an HTTPInferenceClientConfig, a client or 'simulator'"
        )


def _refuse_beside_a_client(given: Mapping[str, Any], isolate_models: bool) -> None:
    for name, value in {**given, "isolate_models": isolate_models or None}.items():
        if value is not None:
            raise ConfigError(name, "does nothing beside a client, which has its own settings")


class _Configure:
    """Makes the configuration of each gateway: paced, and patient, where it is not by itself."""

    def __init__(
        self,
        of_urls: Mapping[str, Any],
        patience: Duration | None,
        concurrency: Concurrency,
        gateways: int,
        simulated: bool,
    ) -> None:
        self._of_urls = dict(of_urls)
        retries = self._of_urls.pop("max_retries", RetryPolicy().max_retries)
        require_count("max_retries", retries, minimum=0)
        self._retry = RetryPolicy(max_retries=retries)
        self._breaker = patient_breaker()
        if patience is not None:
            self._breaker = patient_breaker(parse_duration(patience, "patience"))
        self._is_found = concurrency == "auto"
        self._most = _most_each(concurrency, gateways, ends=2 if simulated else 1)

    def __call__(
        self, name: str, gateway: str | HTTPInferenceClientConfig
    ) -> HTTPInferenceClientConfig:
        require_kind(name, gateway, str | HTTPInferenceClientConfig)
        if isinstance(gateway, str):
            url = DEFAULT_BASE_URL if gateway == SIMULATOR else gateway
            try:
                config = HTTPInferenceClientConfig(url, retry=self._retry, **self._of_urls)
            except ConfigError as error:
                wrong = name if error.field == "base_url" else error.field
                raise ConfigError(wrong, error.problem) from error
        else:
            config = gateway
        if config.circuit_breaker is None:
            config = replace(config, circuit_breaker=self._breaker)
        if config.concurrency is None:
            config = paced(config, most=self._most, adaptive=self._is_found)
        return config.with_resolved_api_key()


def _most_each(concurrency: Concurrency, gateways: int, *, ends: int) -> int:
    """Requests in flight to each gateway, at most: each is a connection, which is an open file."""
    limit = open_files_limit()
    by_files = (limit - taken_files()) // ends // gateways
    if concurrency == "auto":
        return max(1, min(MOST_CONCURRENCY, by_files))
    require_count("concurrency", concurrency, minimum=1)
    if concurrency > by_files:
        raise ConfigError(
            "concurrency",
            f"{concurrency} needs more open files than the {limit} that this process may have;"
            f" take {max(1, by_files)} or less, or raise the limit (ulimit -n)",
        )
    return concurrency
