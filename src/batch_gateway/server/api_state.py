"""What the routes work with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.tenants import tenant_of
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.database import Database
from batch_gateway.service.sealed_headers import HeaderSeal
from batch_gateway.storage.protocol import Storage

__all__ = ["ApiState"]


def _nothing(batch: object) -> None:
    """Nobody waits to be told."""


@dataclass(frozen=True)
class ApiState:
    """The API's records, store and limits.

    Attributes:
        on_batch_added, on_batch_cancelled: told at once, so that a processor in the same process
            need not look for it; of a batch that is cancelled again only the first time.
        now: the time in seconds since the epoch.
    """

    config: ServerConfig
    database: Database
    storage: Storage
    seal: HeaderSeal | None
    on_batch_added: Callable[[str], None] = _nothing
    on_batch_cancelled: Callable[[BatchRecord], None] = _nothing
    now: Callable[[], float] = time.time

    async def tenant(self, request: Request) -> str:
        return await tenant_of(request, self.config, self.database)
