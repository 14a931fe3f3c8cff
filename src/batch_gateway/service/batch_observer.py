"""Who watches batches: told of their first look, of their answers and of their end."""

from __future__ import annotations

from batch_gateway.report.timeline import Totals
from batch_gateway.service.batch_records import BatchRecord

__all__ = ["BatchObserver"]


class BatchObserver:
    """Override what is wanted. Methods are called on the event loop, and must neither wait nor
    raise."""

    def taken(self, waited: float) -> None:
        """A processor began a batch that had waited so many seconds for it."""

    def looked_at(self, took: float) -> None:
        """The input of a batch was read and divided, or refused, in so many seconds."""

    def answered(self, model: str, totals: Totals) -> None:
        """Requests to `model` came to that, retries with them, in the last moments."""

    def moved(self, batch: BatchRecord) -> None:
        """Something that is recorded has happened to a batch; its end is told once."""
