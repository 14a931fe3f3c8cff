"""The whole service in one process: API and processor on one folder, from start to stop."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from batch_gateway.engine.figures import Figures
from batch_gateway.engine.waits import TellOfOutage, Waits
from batch_gateway.errors import ConfigError
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.page_routes import WebPage
from batch_gateway.server.processor_metrics import ProcessorMetrics
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.serving import RunningApi, serve
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.open_database import open_database
from batch_gateway.service.processor import Processor
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.sealed_headers import HeaderSeal
from batch_gateway.storage.from_url import opened_storage
from batch_gateway.storage.store_address import StoreAddress

__all__ = ["serve_from_folder"]


@contextlib.asynccontextmanager
async def serve_from_folder(
    folder: Path,
    routing: Routing,
    config: ServerConfig,
    processor: ProcessorConfig,
    *,
    store: StoreAddress | None = None,
    concurrency: int | None = None,
) -> AsyncGenerator[RunningApi, None]:
    """Serve while the block lasts; all that there is to keep is in `folder`, files in `store`.

    `concurrency` is how many requests may be under way at each gateway, None for as many as it
    proves to take. Leaving the block stops taking requests, lets those under way end, and puts
    unfinished batches down: the next process goes on with them. Raises ConfigError, StorageError
    and RecordsError.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_only_user_of(folder))
        database = await open_database(folder / "records.sqlite3")
        stack.push_async_callback(database.aclose)
        storage = await stack.enter_async_context(opened_storage(store, folder))
        registry = CollectorRegistry()
        metrics = ProcessorMetrics(
            registry, processor.workers, lambda: worker.shards, routing.by_model
        )
        outages = _Outages()
        waits = Waits(Figures(), outages.tell)
        stack.callback(waits.close)
        limited = routing.of_service(concurrency)
        clients = await stack.enter_async_context(limited.opened(observers=[waits, metrics]))
        metrics.clients = [client.events for client in clients.all]
        seal = HeaderSeal(config.header_keys) if config.header_keys else None
        worker = Processor(
            database,
            storage,
            clients.client_for,
            config=processor,
            open_headers=None if seal is None else seal.open,
            owner=f"process {os.getpid()}",
            alone=True,
            observer=metrics,
        )
        outages.tell_to = worker.gateway_is_down
        state = ApiState(
            config,
            database,
            storage,
            seal,
            on_batch_added=lambda _: worker.wake(),
            on_batch_cancelled=partial(_cancelled, metrics, worker),
        )
        page = WebPage(state)
        stack.push_async_callback(worker.stop)
        # A port that is taken is told before anything is sent.
        running = await stack.enter_async_context(serve(state, registry, more_routes=page.routes))
        stack.callback(page.stop)
        await worker.start()
        # Requests at gateways end while those of the API do, and not in a time after theirs.
        stack.callback(worker.begin_to_stop)
        yield running


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
