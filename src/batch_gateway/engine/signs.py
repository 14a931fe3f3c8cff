"""What the end of one request says about its gateway: the one table."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

from batch_gateway.errors import (
    AuthenticationError,
    InferenceError,
    InvalidRequestError,
    TLSError,
)
from batch_gateway.wire.json_schema import INVALID_ANSWER
from batch_gateway.wire.refusal_words import is_page, is_refused_key, is_unknown_model, is_used_up
from batch_gateway.wire.refusals import TOO_LARGE_CODES, is_connect_failure

__all__ = ["ALIVE", "SAYS_NOTHING", "Evidence", "Sign", "read_evidence"]


class Sign(Enum):
    """What the end of one request says about its gateway."""

    LIFE = auto()
    """An answer."""
    NOTHING = auto()
    """Nothing: the request was refused before it was sent, or the cache had the answer."""
    OWN = auto()
    """It failed for what it is (400, 413, 422 …, an answer that is not the JSON that was asked
    for), unless every other fails in the same words."""
    DOUBT = auto()
    """It failed in a way that may be this request's fault (5xx, timeout, garbled answer)."""
    LOAD = auto()
    """It was refused for load until its retries were spent: 429."""
    PLACE = auto()
    """It was refused where others may not be: 403, 404, 405, 451, a redirect."""
    MODEL = auto()
    """Its model does not exist."""
    USED_UP = auto()
    """The quota or the money of its account or model is used up."""
    KEY = auto()
    """It was refused as every other will be: 401, 407, and words that say so."""
    UNREACHED = auto()
    """No connection was made at all: refused, unknown host, TLS."""


class Evidence(NamedTuple):
    """One request's sign, and its words without what differs from request to request."""

    sign: Sign
    kind: str = ""
    is_page: bool = False


ALIVE = Evidence(Sign.LIFE)
SAYS_NOTHING = Evidence(Sign.NOTHING)

_SIGN_OF_STATUS = {
    **dict.fromkeys((400, 409, 411, 413, 414, 415, 416, 417, 422, 428, 431), Sign.OWN),
    407: Sign.KEY,
    **dict.fromkeys((408, 424, 425), Sign.DOUBT),
    429: Sign.LOAD,
}
# Numbers of requests, trace ids and times: long words with a digit in them.
_PASSING_WORD = re.compile(r"[\w.:+-]*\d[\w.:+-]*")
_SHORTEST_ID = 9


def read_evidence(error: InferenceError) -> Evidence:
    """What a failed request says about its gateway."""
    kind = f"{error.status_code} {error.code} {_PASSING_WORD.sub(_masked, error.message)}"
    return Evidence(_sign(error), kind, is_page(error))


def _masked(found: re.Match[str]) -> str:
    word = found.group()
    return word if len(word) < _SHORTEST_ID else "#"


def _sign(error: InferenceError) -> Sign:
    status = error.status_code
    if is_used_up(error):
        return Sign.USED_UP
    if error.code in TOO_LARGE_CODES or error.code == INVALID_ANSWER:
        return Sign.OWN
    if status is None:
        return _sign_without_answer(error)
    if is_unknown_model(error):
        return Sign.MODEL
    if is_refused_key(error):
        return Sign.KEY
    # What nobody thought of is more often said of the place than of the request.
    of_status = _SIGN_OF_STATUS.get(status, Sign.PLACE)
    return of_status if 300 <= status < 500 else Sign.DOUBT


def _sign_without_answer(error: InferenceError) -> Sign:
    if isinstance(error, InvalidRequestError):
        return Sign.NOTHING
    if isinstance(error, AuthenticationError):
        return Sign.KEY
    if isinstance(error, TLSError) or is_connect_failure(error):
        return Sign.UNREACHED
    return Sign.DOUBT
