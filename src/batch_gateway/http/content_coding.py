"""Undoes a compression that was not asked for but that some gateways apply all the same."""

from __future__ import annotations

import asyncio

from batch_gateway.errors import BadResponseError
from batch_gateway.http.body_decoder import BodyDecoder, UndecodableBodyError
from batch_gateway.http.connection_errors import too_large, too_large_error
from batch_gateway.http.exchange import HTTPResponse

__all__ = ["unpacked"]

# About a millisecond's work.
_AT_A_TIME = 256 * 1024
# What a piece costs beside its bytes: each empty member of gzip is one.
_EACH_PIECE = 4 * 1024


async def unpacked(response: HTTPResponse, peer: str, limit: int) -> HTTPResponse:
    """`response` without its content coding, its body at most `limit` bytes.

    A refusal stays one whatever its body: what cannot be decoded is left as it came, and
    `undecodable` says why. Raises BadResponseError for a success that cannot be decoded.
    """
    if not response.body or not response.coding or response.undecodable:
        return response
    status, headers = response.status_code, response.headers
    is_refusal = not 200 <= status <= 299
    try:
        body = await _decoded(response.body, response.coding, limit)
    except UndecodableBodyError as error:
        if is_refusal:
            return HTTPResponse(status, headers, response.body, undecodable=str(error))
        raise BadResponseError(
            f"the response of {peer} {error}", status_code=status, cause=error
        ) from error
    if body is not None:
        return HTTPResponse(status, headers, body)
    if is_refusal:
        return HTTPResponse(status, headers, response.body, undecodable=too_large(limit))
    raise too_large_error(f"the response of {peer}", limit, status)


async def _decoded(packed: bytes, codings: str, limit: int) -> bytes | None:
    """None when it is larger than the limit. Other requests go on meanwhile."""
    decoder = BodyDecoder(codings)
    body = bytearray()
    worked = 0
    for start in range(0, len(packed) + _AT_A_TIME, _AT_A_TIME):
        data = packed[start : start + _AT_A_TIME]
        for piece in decoder.feed(data) if data else decoder.finish():
            body += piece
            if len(body) > limit:
                return None
            worked += len(piece) + _EACH_PIECE
            if worked > _AT_A_TIME:
                worked = 0
                await asyncio.sleep(0)
    return bytes(body)
