"""What a process serves: both ports, from start to stop, and what is cleared away meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.routing import Route
from starlette.types import ASGIApp

from batch_gateway.byte_size import byte_count
from batch_gateway.durations import seconds
from batch_gateway.errors import BatchGatewayError, RecordsError
from batch_gateway.server.api_metrics import BacklogMetrics
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.app import create_app
from batch_gateway.server.bounded_protocol import ConnectionLimits
from batch_gateway.server.http_server import HttpServer
from batch_gateway.server.observability import observability_app
from batch_gateway.server.readiness import Readiness
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.backlog import backlog
from batch_gateway.service.database import Database
from batch_gateway.service.leftover_batches import remove_all_working_objects, remove_old_batches
from batch_gateway.service.leftover_files import remove_leftovers
from batch_gateway.service.session_records import forget_old_sessions
from batch_gateway.storage.protocol import Storage

__all__ = ["RunningApi", "serve", "serve_figures"]

_CLEAR_EVERY_SECONDS = 300.0
_BACKLOG_SECONDS = 5.0
_log = logging.getLogger("batch_gateway.server")


@dataclass(frozen=True)
class RunningApi:
    """Where the API and its observability are; `url` is empty where there is no API."""

    url: str
    observability_url: str


@contextlib.asynccontextmanager
async def serve(
    state: ApiState,
    registry: CollectorRegistry | None = None,
    *,
    more_routes: Sequence[Route] = (),
) -> AsyncGenerator[RunningApi, None]:
    """The API on its ports for as long as the block lasts.

    Leaving the block lets requests under way end within `shutdown_timeout`, and ends the others;
    the database and the store are left to the caller. Raises ConfigError when a port is taken.
    """
    figures = CollectorRegistry() if registry is None else registry
    config = state.config
    left_to_do = BacklogMetrics(figures)

    async def look_at_backlog() -> None:
        # Without the records there are still the other figures, and Prometheus waits ten seconds.
        with contextlib.suppress(RecordsError, TimeoutError):
            async with asyncio.timeout(_BACKLOG_SECONDS):
                left_to_do.show(await state.database.read(backlog), state.now())

    async with contextlib.AsyncExitStack() as stack:
        # Stopped last, so that load balancers see what is coming.
        readiness = Readiness(state.database, state.storage, has_api=True)
        app = observability_app(figures, readiness, look_at_backlog)
        observed = _observability_server(app, config)
        stack.push_async_callback(observed.stop)
        api = _api_server(create_app(state, figures, more_routes=more_routes), config)
        stack.push_async_callback(api.stop)
        await observed.start()
        await api.start()
        clearing = asyncio.create_task(_keep_clearing(state))
        try:
            yield RunningApi(api.url, observed.url)
        finally:
            readiness.is_stopping = True
            clearing.cancel()
            await asyncio.wait({clearing})


@contextlib.asynccontextmanager
async def serve_figures(
    config: ServerConfig, database: Database, storage: Storage, registry: CollectorRegistry
) -> AsyncGenerator[RunningApi, None]:
    """Health, readiness and metrics alone, as `serve` has them beside the API."""

    async def nothing() -> None:
        """What others count is asked of them."""

    readiness = Readiness(database, storage, has_api=False)
    observed = _observability_server(observability_app(registry, readiness, nothing), config)
    try:
        await observed.start()
        yield RunningApi("", observed.url)
    finally:
        readiness.is_stopping = True
        await observed.stop()


def _api_server(app: ASGIApp, config: ServerConfig) -> HttpServer:
    tls = config.tls_certificate, config.tls_key
    return HttpServer(
        app,
        config.host,
        config.port,
        ConnectionLimits(
            header_bytes=byte_count(config.max_header_bytes),
            header_seconds=seconds(config.read_header_timeout),
            connections=config.max_connections,
        ),
        idle_seconds=seconds(config.idle_timeout),
        shutdown_seconds=seconds(config.shutdown_timeout),
        tls=None if tls[0] is None or tls[1] is None else (tls[0], tls[1]),
    )


def _observability_server(app: ASGIApp, config: ServerConfig) -> HttpServer:
    return HttpServer(
        app,
        config.host,
        config.observability_port,
        ConnectionLimits(header_bytes=16384, header_seconds=10.0, connections=64),
        idle_seconds=60.0,
        shutdown_seconds=1.0,
        field="observability_port",
    )


async def _keep_clearing(state: ApiState) -> None:
    database, storage = state.database, state.storage
    lifetime = state.config.batch_lifetime
    kept = None if lifetime is None else seconds(lifetime)
    while True:
        # One that fails keeps none of the others.
        for clear in (
            partial(remove_leftovers, database, storage, state.now()),
            partial(remove_old_batches, database, state.now(), kept),
            partial(database.write, forget_old_sessions),
            partial(remove_all_working_objects, database, storage),
            storage.clear,
        ):
            try:
                await clear()
            except BatchGatewayError as error:
                _log.warning("what is deleted or expired could not be removed: %s", error)
        await asyncio.sleep(_CLEAR_EVERY_SECONDS)
