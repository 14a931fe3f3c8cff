"""The query of a list: which page of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batch_gateway.server.api_errors import ApiError
from batch_gateway.service.paging import Paging

__all__ = ["parse_paging"]

_DEFAULT_LIMIT = 20
_LONGEST = 200
# What SQLite's and PostgreSQL's numbers hold, by far.
_DIGITS = re.compile(r"[0-9]{1,15}", re.ASCII)


def parse_paging(query: Mapping[str, str], most: int) -> Paging:
    """`limit` from 1 to `most`, `order`, and `after`: an id, or digits alone, which are an offset.

    Raises ApiError (400).
    """
    limit = query.get("limit") or str(_DEFAULT_LIMIT)
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= most:
        raise ApiError(400, f"limit must be a number between 1 and {most}")
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise ApiError(400, "order must be 'asc' or 'desc'")
    after = query.get("after") or None
    offset = 0
    if after is not None and _DIGITS.fullmatch(after):
        after, offset = None, int(after)
    elif after is not None and (len(after) > _LONGEST or "\0" in after or after.startswith("-")):
        raise ApiError(400, "after must be an id or a number of items to leave out")
    return Paging(limit=int(limit), after=after, offset=offset, order=order)
