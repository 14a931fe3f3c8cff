"""How the lines of a batch are sent: what its record and the configuration come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.run import RunOptions
from batch_gateway.engine.sending import HeadersFor
from batch_gateway.errors import RecordsError
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.gateway_clients import passed_headers
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.statuses import BatchStatus

__all__ = ["OpenHeaders", "options_of"]

OpenHeaders = Callable[[bytes], Mapping[str, str]]
"""Decrypts the headers that a batch passes on."""

_EVERYTHING: Final = FailureLimit(share=1.0)


def options_of(
    batch: BatchRecord, config: ProcessorConfig, open_headers: OpenHeaders | None
) -> RunOptions:
    """For one shard of the batch, beside those of others.

    Raises RecordsError when the batch passes headers on that cannot be read: without them its
    requests would be somebody else's.
    """
    return RunOptions(
        # The client's limit holds for all batches together.
        concurrency=None,
        side_by_side=True,
        due=datetime.fromtimestamp(batch.due_at, UTC),
        tenant=batch.tenant,
        headers_for=_headers_for(batch, open_headers),
        max_bytes_in_flight=max(1, config.max_bytes_in_flight // config.workers),
        grace=config.shutdown_timeout,
        max_failures=_EVERYTHING,
    )


def _headers_for(batch: BatchRecord, open_headers: OpenHeaders | None) -> HeadersFor | None:
    # One that only ends sends nothing, and ends whatever became of the keys.
    if batch.headers is None or BatchStatus(batch.status) is not BatchStatus.IN_PROGRESS:
        return None
    if open_headers is None:
        raise RecordsError(
            "the headers of this batch are encrypted: give the service its keys back"
        )
    return partial(passed_headers, open_headers(batch.headers))
