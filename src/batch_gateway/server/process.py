"""The service in a process: the API, the processor or both, from start to stop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from batch_gateway.engine.figures import Figures
from batch_gateway.engine.waits import TellOfOutage, Waits
from batch_gateway.errors import ConfigError, RecordsError
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.page_routes import WebPage
from batch_gateway.server.processor_metrics import ProcessorMetrics
from batch_gateway.server.server_config import Role, ServerConfig
from batch_gateway.server.serving import RunningApi, serve, serve_figures
from batch_gateway.service.batch_records import BatchRecord, sealed_headers
from batch_gateway.service.database import Database
from batch_gateway.service.one_store import require_one_store
from batch_gateway.service.open_database import open_database, shown_place
from batch_gateway.service.processor import Processor
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.sealed_headers import HeaderSeal
from batch_gateway.storage.from_url import opened_storage, place_of_store
from batch_gateway.storage.store_address import StoreAddress

__all__ = ["serve_from_folder"]


@contextlib.asynccontextmanager
async def serve_from_folder(
    folder: Path,
    routing: Routing,
    config: ServerConfig,
    processor: ProcessorConfig,
    *,
    role: Role = Role.ALL,
    store: StoreAddress | None = None,
    database: str | None = None,
    concurrency: int | None = None,
) -> AsyncGenerator[RunningApi, None]:
    """Serve while the block lasts; what there is to keep is in `folder` if not elsewhere.

    Files are in `store`, if there is one, and records in `database`: the URL of a PostgreSQL
    database that any number of such processes share, of whatever `role`. `concurrency` is how many
    requests may be under way at each gateway, None for as many as it proves to take. Leaving the
    block stops taking requests, lets those under way end, and puts unfinished batches down: another
    process, or the next, goes on with them. Raises ConfigError, StorageError and RecordsError.
    """
    async with contextlib.AsyncExitStack() as stack:
        if database is None:
            _require_all(role)
            stack.enter_context(_only_user_of(folder))
        place = database or folder / "records.sqlite3"
        records = await open_database(place)
        stack.push_async_callback(records.aclose)
        storage = await stack.enter_async_context(opened_storage(store, folder))
        if database is not None or store is not None:
            places = {"place": place_of_store(store, folder), "database_place": shown_place(place)}
            await require_one_store(records, storage, **places)
        registry = CollectorRegistry()
        seal = HeaderSeal(config.header_keys) if config.header_keys else None
        state = ApiState(config, records, storage, seal)
        if role is Role.WORKER:
            await _require_keys(records, seal)
        worker: Processor | None = None
        if role is not Role.API:
            limited = routing.of_service(concurrency)
            opened = _processor(state, registry, limited, processor, is_alone=database is None)
            worker, metrics = await stack.enter_async_context(opened)
            told = partial(_added, worker), partial(_cancelled, metrics, worker)
            state = replace(state, on_batch_added=told[0], on_batch_cancelled=told[1])
            stack.push_async_callback(worker.stop)
        # A port that is taken is told before anything is sent.
        if role is Role.WORKER:
            serving = serve_figures(config, records, storage, registry)
            running = await stack.enter_async_context(serving)
        else:
            page = WebPage(state)
            serving = serve(state, registry, more_routes=page.routes)
            running = await stack.enter_async_context(serving)
            stack.callback(page.stop)
        if worker is not None:
            await worker.start()
            # Requests at gateways end while those of the API do, and not in a time after theirs.
            stack.callback(worker.begin_to_stop)
        yield running


@contextlib.asynccontextmanager
async def _processor(
    state: ApiState,
    registry: CollectorRegistry,
    routing: Routing,
    config: ProcessorConfig,
    *,
    is_alone: bool,
) -> AsyncGenerator[tuple[Processor, ProcessorMetrics]]:
    """One that is not started yet, with clients of its gateways."""
    metrics = ProcessorMetrics(registry, config.workers, lambda: worker.shards, routing.models)
    outages = _Outages()
    waits = Waits(Figures(), outages.tell)
    try:
        async with routing.opened(observers=[waits, metrics]) as clients:
            metrics.watch([client.events for client in clients.all])
            worker = Processor(
                state.database,
                state.storage,
                clients.client_for,
                config=config,
                open_headers=None if state.seal is None else state.seal.open,
                owner=f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}",
                alone=is_alone,
                observer=metrics,
            )
            outages.tell_to = worker.gateway_is_down
            yield worker, metrics
    finally:
        waits.close()


async def _require_keys(records: Database, seal: HeaderSeal | None) -> None:
    """A worker that could not send what batches pass on would only be in the way of others."""
    sealed = await records.read(sealed_headers)
    if sealed is None:
        return
    if seal is None:
        raise ConfigError(
            "header_keys",
            "there are batches that pass headers on, which this worker cannot read without the"
            " keys that the API has",
        )
    try:
        seal.open(sealed)
    except RecordsError as error:
        raise ConfigError("header_keys", str(error)) from error


def _require_all(role: Role) -> None:
    if role is not Role.ALL:
        raise ConfigError(
            "role",
            f"{role.value} needs --database: records in a folder are those of one process, which"
            " does everything",
        )


def _added(worker: Processor, batch_id: str) -> None:
    worker.wake()


def _cancelled(metrics: ProcessorMetrics, worker: Processor, batch: BatchRecord) -> None:
    metrics.moved(batch)
    worker.look()


class _Outages:
    """Passes on what is told of gateways, once there is somebody to tell."""

    def __init__(self) -> None:
        self.tell_to: TellOfOutage | None = None

    def tell(self, gateway: str, lasted: float | None) -> None:
        if self.tell_to is not None:
            self.tell_to(gateway, lasted)


@contextlib.contextmanager
def _only_user_of(folder: Path) -> Generator[None]:
    """Hold the folder against other processes, which a crash ends by itself."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError("data", f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(
            "data", f"{folder} is in use by another batch-gateway serve: name another folder"
        ) from error
    try:
        yield
    finally:
        os.close(lock)
