"""Answers that have to be JSON as a schema says: others are errors, which are tried again."""

from __future__ import annotations

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.errors import BadResponseError
from batch_gateway.wire.json_schema import INVALID_ANSWER, JSONSchema

__all__ = ["AnswerCheckTransport"]


class AnswerCheckTransport:
    """A layer right below the retries: to the breaker and the limits below, an answer is one.

    Streams pass as they are: what somebody has read cannot be asked for again.
    """

    def __init__(self, inner: Transport, schema: JSONSchema) -> None:
        self._inner = inner
        self._schema = schema

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        response = await self._inner.send(request)
        problem = None if request.sink else self._schema.problem_of_body(response.body)
        if problem is None:
            return response
        raise BadResponseError(
            problem,
            code=INVALID_ANSWER,
            body=response.body,
            request_id=request.request_id,
            attempts=request.attempt,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()
