"""Pages of a list: newest first or oldest first, after an item or after so many of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Column, Connection, RowMapping, Table, select
from sqlalchemy.sql import ColumnElement

__all__ = ["Page", "Paging", "page_of"]

_Item = TypeVar("_Item")


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """At most `limit` items, after the item `after` or after `offset` items."""

    limit: int = 20
    after: str | None = None
    offset: int = 0
    order: Literal["asc", "desc"] = "desc"


class Page(NamedTuple, Generic[_Item]):
    """Items in the order of the list, and whether there are more after them."""

    items: Sequence[_Item]
    has_more: bool


def page_of(
    connection: Connection,
    table: Table,
    columns: Sequence[Column[Any]],
    kept: ColumnElement[bool],
    paging: Paging,
) -> Page[RowMapping]:
    """The rows that `kept` is true of.

    Ids sort by time, so that `after` may be an item that is not there any more: whoever deletes
    what a page shows still gets the next one.
    """
    place = table.c.id
    rising = paging.order == "asc"
    chosen = select(*columns).where(kept)
    if paging.after is not None:
        chosen = chosen.where(place > paging.after if rising else place < paging.after)
    chosen = chosen.order_by(place if rising else place.desc()).offset(paging.offset)
    rows = connection.execute(chosen.limit(paging.limit + 1)).mappings().all()
    return Page(rows[: paging.limit], len(rows) > paging.limit)
