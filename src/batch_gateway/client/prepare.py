"""From what a caller asks for to what is sent: every check that needs no network."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from batch_gateway.client.interfaces.request import InferenceRequest, RequestLike, as_request
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.request_body import require_streamable, streaming_body
from batch_gateway.clock import Clock
from batch_gateway.errors import ConfigError, InvalidRequestError
from batch_gateway.http.header_rules import check_headers
from batch_gateway.wire.endpoint import ORDINARY, check_endpoint, determine_endpoint

__all__ = ["model_of", "prepare", "prepare_stream"]

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,512}")
_INFINITY = float("inf")

_encode = msgspec.json.Encoder().encode


class _ModelOnly(msgspec.Struct):
    model: str | None = None


_decode_model = msgspec.json.Decoder(_ModelOnly).decode
_decode_params = msgspec.json.Decoder(dict[str, Any]).decode


def model_of(request: InferenceRequest) -> str:
    """The model a request asks for, empty when it names none that can be read."""
    if request.model:
        return request.model
    if isinstance(request.params, bytes):
        try:
            return _decode_model(request.params).model or ""
        except (msgspec.DecodeError, RecursionError):
            return ""
    if not isinstance(request.params, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        return ""
    model = request.params.get("model")
    return model if isinstance(model, str) else ""


def prepare_stream(request: RequestLike, clock: Clock) -> PreparedRequest:
    """`prepare` for a request whose answer is wanted chunk by chunk.

    Raises InvalidRequestError also for an endpoint that cannot be streamed, and for bytes that
    are no JSON object.
    """
    request = as_request(request)
    prepared = prepare(request, clock, streamed=True)
    try:
        require_streamable(prepared.endpoint)
        if isinstance(request.params, bytes):
            streaming_body(prepared.body, prepared.endpoint)
    except InvalidRequestError as error:
        error.request_id = prepared.request_id
        raise
    return prepared


def prepare(request: RequestLike, clock: Clock, *, streamed: bool = False) -> PreparedRequest:
    """Check `request` and turn it into bytes and instants.

    Raises InvalidRequestError, carrying the request's id, for everything that could be found
    wrong before sending. Parameters may say `stream: true` only if the answer is `streamed`.
    """
    if not isinstance(request, InferenceRequest):
        request = as_request(request)
    try:
        return _prepare(request, clock, streamed)
    except InvalidRequestError as error:
        error.request_id = str(request.request_id)
        raise


def _prepare(request: InferenceRequest, clock: Clock, streamed: bool) -> PreparedRequest:
    # This runs once a request, and what is nearly always so is asked for without a call.
    now = clock.monotonic()
    params, model, endpoint = request.params, request.model, request.endpoint
    if isinstance(params, bytes):
        body = params
        # With model and endpoint given, as batch lines have them, the body is not looked at.
        if not (model and endpoint):
            model, endpoint = _from_bytes(body, request)
    # The usual kind first: asking for an abstract one takes long.
    elif isinstance(params, dict) or isinstance(params, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # noqa: SIM101
        model, endpoint, body = _from_mapping(params, request, streamed)
    else:
        raise InvalidRequestError("params must be a mapping or JSON bytes")
    if not model:
        raise InvalidRequestError("model is missing: set it on the request or in params")
    return PreparedRequest(
        request_id=_request_id(request.request_id),
        model=model,
        endpoint=endpoint if endpoint in ORDINARY else check_endpoint(endpoint),
        body=body,
        headers=_headers(request.headers) if request.headers else (),
        started=now,
        deadline=(
            _INFINITY
            if request.deadline is None
            else _instant("deadline", request.deadline, now, clock)
        ),
        due=_INFINITY if request.due is None else _instant("due", request.due, now, clock),
        tenant=_tenant(request.tenant) if request.tenant else "",
    )


def _from_bytes(body: bytes, request: InferenceRequest) -> tuple[str, str]:
    try:
        model = request.model or _decode_model(body).model or ""
        endpoint = request.endpoint or determine_endpoint(_decode_params(body))
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"params: {error}", cause=error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"params are not JSON: {error}", cause=error) from error
    return model, endpoint


def _from_mapping(
    params: Mapping[str, Any], request: InferenceRequest, streamed: bool
) -> tuple[str, str, bytes]:
    if not streamed and params.get("stream"):
        raise InvalidRequestError(
            "params say stream: true, and generate gives back one whole answer;"
            " leave it out, or use client.stream(request)"
        )
    inner = params.get("model")
    if inner is not None and not isinstance(inner, str):
        raise InvalidRequestError("params['model'] must be a string")
    if request.model and inner and request.model != inner:
        raise InvalidRequestError(
            f"model is {request.model!r} but params['model'] is {inner!r}; make them agree"
        )
    model = request.model or inner or ""
    endpoint = request.endpoint or determine_endpoint(params)
    try:
        # The encoder knows no other mappings than dict.
        body = _encode(params if inner and isinstance(params, dict) else {**params, "model": model})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"params cannot be sent as JSON: {error}", cause=error) from error
    # Not `in`, which tries first whether a number is looked for.
    if body.find(b"null") >= 0:
        _refuse_what_is_no_number(params)
    return model, endpoint, body


def _refuse_what_is_no_number(params: Mapping[str, Any]) -> None:
    """NaN and infinity, which JSON does not have, would be sent as null."""
    left: list[tuple[str, Any]] = [("params", params)]
    while left:
        path, value = left.pop()
        if isinstance(value, float):
            if not math.isfinite(value):
                raise InvalidRequestError(f"{path} is {value}, which is no number in JSON")
            continue
        left.extend(
            (f"{path}[{key!r:.80}]", member)
            for key, member in _members(value)
            if member is not None and not isinstance(member, str | int)
        )


def _members(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return cast("Mapping[Any, Any]", value).items()
    if isinstance(value, list | tuple | set | frozenset):
        return enumerate(cast("Iterable[Any]", value))
    with suppress(TypeError):
        # Data classes and structs become mappings.
        plain = msgspec.to_builtins(value)
        if type(plain) is not type(value):
            return _members(plain)
    return ()


def _request_id(request_id: str) -> str:
    if not request_id:
        # Random enough to tell requests apart, at half the cost of asking the kernel.
        return f"req-{random.getrandbits(96):024x}"
    if not isinstance(request_id, str) or _REQUEST_ID.fullmatch(request_id) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(
            f"request_id {request_id!r:.80} must be 1 to 512 visible ASCII characters: "
            "it is sent as X-Request-ID"
        )
    return request_id


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    try:
        return check_headers("headers", headers)
    except ConfigError as error:
        raise InvalidRequestError(str(error), cause=error) from error


def _tenant(tenant: str) -> str:
    if not isinstance(tenant, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"tenant must be a string, not {tenant!r:.80}")
    return tenant


def _instant(name: str, instant: datetime | timedelta | float, now: float, clock: Clock) -> float:
    """It on the monotonic clock."""
    # The usual kind first, as a batch with a due time asks for it once a line.
    if type(instant) is float and instant == instant:  # noqa: PLR0124
        return now + instant
    if isinstance(instant, datetime):
        if instant.tzinfo is None:
            raise InvalidRequestError(f"{name} needs a time zone: use datetime.now(timezone.utc)")
        return now + instant.timestamp() - clock.wall_time()
    if isinstance(instant, timedelta):
        return now + instant.total_seconds()
    if isinstance(instant, bool) or not isinstance(instant, int | float) or instant != instant:  # noqa: PLR0124  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"{name} must be a datetime, a timedelta or seconds")
    return now + instant
