"""How many lines of each model a batch of several models has, and how many of those are done.

Of a batch of one model the batch itself says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.sql import bindparam

from batch_gateway.service.tables import model_lines

__all__ = ["OTHER_MODELS", "count_finished", "forget_models", "note_models"]

OTHER_MODELS: Final = "other"
"""What all models but the most frequent ones of a batch are called together."""

_MOST_MODELS = 100


def note_models(connection: Connection, batch_id: str, models: Mapping[str, int]) -> None:
    """So many lines of each model are to be sent."""
    lines = Counter(dict(Counter(models).most_common(_MOST_MODELS)))
    if rest := sum(models.values()) - lines.total():
        lines[OTHER_MODELS] += rest
    connection.execute(
        model_lines.insert(),
        [{"batch_id": batch_id, "model": model, "total": n} for model, n in lines.items()],
    )


def count_finished(connection: Connection, batch_id: str, finished: Mapping[str, int]) -> None:
    """So many more lines of each model have their result."""
    of_batch = model_lines.c.batch_id == batch_id
    known = set(connection.execute(select(model_lines.c.model).where(of_batch)).scalars())
    if not known:
        return
    lines = Counter[str]()
    for model, number in finished.items():
        lines[model if model in known else OTHER_MODELS] += number
    more = {"finished": model_lines.c.finished + bindparam("more")}
    connection.execute(
        update(model_lines).where(of_batch, model_lines.c.model == bindparam("named")).values(more),
        [{"named": model, "more": number} for model, number in lines.items()],
    )


def forget_models(connection: Connection, batch_id: str) -> None:
    """The batch has ended."""
    connection.execute(delete(model_lines).where(model_lines.c.batch_id == batch_id))
