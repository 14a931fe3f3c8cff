"""One gateway looked at as a run would use it: connection, models, an answer, a stream."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.client.model_list import MODELS_PATH
from batch_gateway.diagnosis.certificate import read_certificate
from batch_gateway.diagnosis.finding import Finding, Status
from batch_gateway.diagnosis.verdicts import (
    about_answer,
    about_certificate,
    about_clock,
    about_connection,
    about_limits,
    about_metrics,
    about_models,
    about_stream,
)
from batch_gateway.durations import seconds
from batch_gateway.errors import InferenceError, InvalidRequestError, TLSError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.method_heads import exchanger_by_method
from batch_gateway.http.sent_secrets import redactor_of
from batch_gateway.http.target import Target
from batch_gateway.wire.headers import Headers

__all__ = ["examine_gateway"]

_LONGEST_WAIT = 60.0
_FEW_TOKENS = 8
_PROMPT = "Say hello."


async def examine_gateway(
    config: HTTPInferenceClientConfig, model: str | None = None
) -> AsyncIterator[Finding]:
    """What was found, check by check; later ones are left out where they can only fail too.

    `model` is asked; without it the first that is listed. Nothing is sent twice. Raises ConfigError
    for a key or a certificate that cannot be read.
    """
    limit = min(_LONGEST_WAIT, seconds(config.timeout))
    config = replace(
        config.with_resolved_api_key(),
        timeout=limit, retry=None, circuit_breaker=None, rate_limit=None, concurrency=None,
        cache=None, coalesce=None, stream_upstream=False, json_schema=None,
    )  # fmt: skip
    examination = _Examination(config, limit)
    async with HTTPInferenceClient(config) as client:
        async for finding in examination.findings(client, model):
            yield finding


class _Examination:
    """The checks of one gateway."""

    def __init__(self, config: HTTPInferenceClientConfig, limit: float) -> None:
        self._config, self._limit = config, limit
        self._target = Target.of(config)
        self._redact = redactor_of(config)

    async def findings(
        self, client: HTTPInferenceClient, model: str | None
    ) -> AsyncIterator[Finding]:
        error, taken = await _tried(client.connect())
        connection = about_connection(error, taken, "" if error else await self._addresses())
        yield connection
        certificate = await self._certificate(error)
        if certificate is not None:
            yield certificate
        if connection.status is Status.FAILED:
            return
        models = list[str]()
        if not self._config.uses_endpoint_picker:
            page, taken = await self._get(MODELS_PATH)
            if isinstance(page, InferenceError):
                yield Finding("models", Status.WARNING, page.message)
            else:
                finding, models = about_models(page)
                yield finding
                if (clock := about_clock(page.headers, time.time(), taken)) is not None:
                    yield clock
                if finding.status is Status.FAILED:
                    return
        async for finding in self._answers(client, model or next(iter(models), None)):
            yield finding

    async def _answers(
        self, client: HTTPInferenceClient, model: str | None
    ) -> AsyncIterator[Finding]:
        if model is None:
            said = "no request was tried, because no model is known"
            yield Finding("answer", Status.WARNING, said, "name one: --model NAME")
            return
        endpoint, error, headers, taken = await _asked(client, model)
        yield about_answer(model, error, taken)
        if (limits := about_limits(headers)) is not None:
            yield limits
        if error is None:
            has_key = self._config.api_key is not None
            said = "accepted" if has_key else "none is given, and none is asked for"
            yield Finding("key", Status.OK, said)
        if error is None and endpoint in _STREAMED:
            for finding in await _streamed(client, _request(endpoint, model)):
                yield finding
        if not self._config.uses_endpoint_picker:
            page, _ = await self._get("/metrics")
            url = self._redact.in_text(self._target.url("/metrics").partition("?")[0])
            yield about_metrics(None if isinstance(page, InferenceError) else page, url)

    async def _get(self, path: str) -> tuple[HTTPResponse | InferenceError, float]:
        exchanger = exchanger_by_method(self._config)
        began = time.monotonic()
        try:
            page = await exchanger.post(f"GET {path}", (), b"", deadline=began + self._limit)
            return self._redact.in_response(page), time.monotonic() - began
        except InferenceError as error:
            self._redact.in_error(error)
            return error, time.monotonic() - began
        finally:
            await exchanger.aclose()

    async def _addresses(self) -> str:
        """Of whom the connection was made to, where that was the gateway itself."""
        if self._target.unix_socket or self._config.proxy:
            return ""
        with contextlib.suppress(OSError):
            found = await asyncio.get_running_loop().getaddrinfo(
                self._target.host, self._target.port, type=socket.SOCK_STREAM
            )
            return ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
        return ""

    async def _certificate(self, error: InferenceError | None) -> Finding | None:
        """The gateway's, be it one that was refused; None where none is seen."""
        direct = not (self._config.proxy or self._target.unix_socket)
        if not self._target.tls or not direct or not (error is None or isinstance(error, TLSError)):
            return None
        context = replace(self._config.tls, insecure_skip_verify=False).ssl_context()
        # It is only looked at: nothing is sent on this connection.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.sslobject_class = ssl.SSLObject
        try:
            async with asyncio.timeout(seconds(self._config.connect_timeout)):
                _, writer = await asyncio.open_connection(
                    self._target.host, self._target.port, ssl=context
                )
        except (OSError, TimeoutError):
            return None
        tls: Any = writer.get_extra_info("ssl_object")
        der: bytes | None = tls.getpeercert(binary_form=True)
        writer.transport.abort()
        found = read_certificate(der or b"")
        return None if found is None else about_certificate(found, datetime.now(UTC), error)


_STREAMED = ("/v1/chat/completions", "/v1/completions")


def _request(endpoint: str, model: str) -> InferenceRequest:
    asked: Mapping[str, Any] = {
        "/v1/chat/completions": {
            "messages": [{"role": "user", "content": _PROMPT}], "max_tokens": _FEW_TOKENS
        },
        "/v1/completions": {"prompt": _PROMPT, "max_tokens": _FEW_TOKENS},
        "/v1/embeddings": {"input": _PROMPT},
    }[endpoint]  # fmt: skip
    return InferenceRequest(params={"model": model, **asked}, endpoint=endpoint)


async def _asked(
    client: HTTPInferenceClient, model: str
) -> tuple[str, InferenceError | None, Headers, float]:
    """(endpoint, error, headers, seconds) of a tiny request.

    A model that is not for chats says so; the first refusal is the one that is told.
    """
    first: InferenceError | None = None
    taken = 0.0
    for endpoint in (*_STREAMED, "/v1/embeddings"):
        began = time.monotonic()
        try:
            response = await client.generate(_request(endpoint, model))
        except InferenceError as error:
            taken, first = time.monotonic() - began, first or error
            if not isinstance(error, InvalidRequestError) and error.status_code not in (404, 405):
                break
        else:
            return endpoint, None, response.headers, time.monotonic() - began
    return "", first, Headers.of(first.rate_limits if first else {}), taken


async def _streamed(client: HTTPInferenceClient, request: InferenceRequest) -> list[Finding]:
    began = time.monotonic()
    first: float | None = None
    chunks = 0
    stream = client.stream(request)
    try:
        async for _ in stream:
            chunks += 1
            first = first or time.monotonic() - began
    except InferenceError as error:
        return about_stream(error, first, chunks, usage=False)
    answer = stream.response
    was_streamed = answer is not None and answer.time_to_first_token is not None
    return about_stream(None, first if was_streamed else None, chunks, usage=bool(stream.usage))


async def _tried(attempt: Any) -> tuple[InferenceError | None, float]:
    began = time.monotonic()
    try:
        await attempt
    except InferenceError as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began
