"""A picker's answer in place of a pod's, for whoever reads a stream."""

from __future__ import annotations

from batch_gateway.http.exchange import HTTPResponse

__all__ = ["Refusal"]


class Refusal:
    """An `HTTPStream` over an answer that is all there."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self._body = response.body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body
