"""What goes in, what comes out, and the one-method protocol between them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

import msgspec

from batch_gateway.errors import InvalidRequestError
from batch_gateway.wire.answer_figures import AnswerFigures, read_figures
from batch_gateway.wire.answer_text import answer_text
from batch_gateway.wire.chunks import decode_json
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.usage import Usage

__all__ = ["InferenceClient", "InferenceRequest", "InferenceResponse", "RequestLike", "as_request"]


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a model.

    Attributes:
        params: the request body: a mapping that is encoded as JSON, or JSON bytes that are sent
            untouched.
        request_id: sent as `X-Request-ID`; one is made up when it is empty.
        model: which model; read from `params["model"]` when it is empty.
        endpoint: a relative path such as `/v1/chat/completions`; detected from `params` when
            it is empty (see `determine_endpoint`).
        headers: sent with this request, over those of the configuration.
        deadline: when an answer is no longer wanted: an aware datetime, or a timedelta or a
            number of seconds from the call of `generate`. It covers every retry.
        due: by when an answer is wanted, in the same forms. Of the requests that wait for their
            turn at the gateway the more urgent ones go first; passing it ends nothing.
        tenant: on whose behalf it is sent. Tenants whose requests are equally urgent take turns.
            Neither is sent.
    """

    params: Mapping[str, Any] | bytes
    request_id: str = ""
    model: str = ""
    endpoint: str = ""
    headers: Mapping[str, str] | None = None
    deadline: datetime | timedelta | float | None = None
    due: datetime | timedelta | float | None = None
    tenant: str = ""

    def __repr__(self) -> str:
        # Header values may be secrets, and params long.
        names = None if self.headers is None else list(self.headers)
        return (
            f"InferenceRequest(request_id={self.request_id!r}, model={self.model!r}, "
            f"endpoint={self.endpoint!r}, params={reprlib.repr(self.params)}, "
            f"headers={names}, deadline={self.deadline!r}, due={self.due!r}, "
            f"tenant={self.tenant!r})"
        )


RequestLike = InferenceRequest | Mapping[str, Any]
"""A request, or the parameters alone of one that needs nothing else said."""


def as_request(request: RequestLike) -> InferenceRequest:
    """`request` itself, or the one whose parameters it is. Raises InvalidRequestError."""
    if isinstance(request, InferenceRequest):
        return request
    # The usual kind first: asking for an abstract one takes long.
    is_mapping = isinstance(request, dict) or isinstance(request, Mapping)  # pyright: ignore[reportUnnecessaryIsInstance]  # noqa: SIM101
    if not is_mapping or "params" in request:
        raise InvalidRequestError(
            "a request must be an InferenceRequest, or a mapping that is its parameters (model,"
            f" messages and so on), not {request!r:.80}"
        )
    return InferenceRequest(params=request)


class InferenceResponse(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The answer to one request: a 2xx status whose body is what was asked for, a JSON object.

    Attributes:
        request_id: the one that was sent.
        status_code: 200 to 299.
        headers: of the response; look-up ignores case.
        body: the JSON as received, without a byte-order mark.
        attempts: how many times the request was sent, 1 when the first answer was good, 0 when
            it was not sent because the answer was in the cache or on its way already.
        duration: seconds from the call of `generate` to the last byte, waits included.
        time_to_first_token: seconds from sending the request, the last time, to the first chunk
            with something generated in it; None when the answer was not streamed.
        from_cache: it answered an identical request; the gateway counted no tokens for this one.
        coalesced: how many requests were sent together with it, itself included. Above 1 the
            token counts in the body are its share of theirs.
    """

    request_id: str
    status_code: int
    body: bytes
    headers: Headers = msgspec.field(default_factory=Headers)
    attempts: int = 1
    duration: float = 0.0
    time_to_first_token: float | None = None
    from_cache: bool = False
    coalesced: int = 1

    def __repr__(self) -> str:
        return (
            f"InferenceResponse(request_id={self.request_id!r}, status_code={self.status_code}, "
            f"body={reprlib.repr(self.body)}, attempts={self.attempts}, "
            f"duration={self.duration:.6g})"
        )

    def json(self) -> Any:
        """The body decoded anew on each call, be there half an emoji in it or a huge number."""
        return decode_json(self.body)

    @property
    def text(self) -> str:
        """What the model said: the first choice's text, or the output of `/v1/responses`.

        "" for an answer without any, such as embeddings or a call of a tool. Read from the body
        anew each time.
        """
        return answer_text(self.json())

    @property
    def usage(self) -> Usage | None:
        """Token counts from the body, whichever names its endpoint uses; None without any."""
        return self.figures()[0]

    @property
    def cut_off(self) -> str | None:
        """Why the answer is not whole: "length", "content_filter", or "incomplete" for
        `/v1/responses` that give no reason; None for one that ended by itself.
        """
        return self.figures()[1]

    def figures(self) -> AnswerFigures:
        """`usage` and `cut_off`, for who wants both."""
        # Kept, since several layers and observers ask; as a cached_property it would take a lock.
        # `usual` is what the judge of answers saw of this one, if it was one of an attempt.
        kept = vars(self)
        if "figures_read" not in kept:
            kept["figures_read"] = read_figures(self.body, kept.pop("usual", None))
        return kept["figures_read"]


@runtime_checkable
class InferenceClient(Protocol):
    """Anything that answers requests."""

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        """Answer `request`.

        Raises InferenceError: every failure, the caller's own mistakes included.
        """
        ...
