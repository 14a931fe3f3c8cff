"""What the answers of a gateway mean, and what helps. Pure."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import msgspec

from batch_gateway.client.layers.concurrency.load_page import KNOWN_METRICS, read_page
from batch_gateway.diagnosis.certificate import Certificate
from batch_gateway.diagnosis.finding import Finding, Status
from batch_gateway.durations import format_duration
from batch_gateway.errors import (
    AuthenticationError,
    GatewayConnectionError,
    InferenceError,
    RateLimitError,
    RequestTimeoutError,
    TLSError,
)
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.wire.error_body import parse_error_body
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.markup import has_markup
from batch_gateway.wire.refusal_words import is_unknown_model
from batch_gateway.wire.short_text import short_text

__all__ = [
    "about_answer",
    "about_certificate",
    "about_clock",
    "about_connection",
    "about_limits",
    "about_metrics",
    "about_models",
    "about_stream",
]

_SOON_DAYS = 14
# A Date has whole seconds, and stands in a response from when that was begun.
_CLOCK_TOLERANCE = 5.0
_SLOW_SECONDS = 10.0
_MOST_NAMED = 8
_CREDENTIALS = "--api-key-file FILE, or BATCH_GATEWAY_API_KEY"
_URL_CURE = "check --gateway: host and port, and https:// where it speaks TLS"


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] | None = None


def about_connection(error: InferenceError | None, seconds: float, addresses: str) -> Finding:
    """Whether a connection, TLS included, could be made, and in what time."""
    if error is None:
        said = f"made in {_time(seconds)}" + (f", to {addresses}" if addresses else "")
        facts = {"seconds": round(seconds, 4), "addresses": addresses}
        return Finding("connection", Status.OK, said, facts=facts)
    return Finding("connection", Status.FAILED, error.message, _cure_of_no_connection(error))


def _cure_of_no_connection(error: InferenceError) -> str:
    message = error.message
    if isinstance(error, TLSError):
        return "see the certificate" if "certificate" in message else _URL_CURE
    if "cannot be resolved" in message or "looked up" in message:
        return "check the host's name in --gateway, and this machine's DNS"
    if "refused" in message.lower():
        return "nothing listens there: check the port, and that the gateway is up"
    if isinstance(error, RequestTimeoutError):
        return "a firewall may drop it, or the gateway is behind a proxy (--proxy)"
    return _URL_CURE if isinstance(error, GatewayConnectionError) else ""


def about_certificate(
    certificate: Certificate, now: datetime, error: InferenceError | None
) -> Finding:
    """What the gateway's certificate says; `error` is why it was refused, if it was."""
    days = (certificate.ends - now).days
    names = ", ".join(certificate.names[:_MOST_NAMED])
    facts = {
        "names": list(certificate.names),
        "issuer": certificate.issuer,
        "self_signed": certificate.self_signed,
        "not_before": certificate.begins.isoformat(),
        "not_after": certificate.ends.isoformat(),
        "days_left": days,
    }
    by = "by itself" if certificate.self_signed else f"by {certificate.issuer}"
    said = f"for {names}, vouched for {by}, until {certificate.ends:%Y-%m-%d}"
    if certificate.ends < now:
        said = f"{said}: expired {(now - certificate.ends).days} days ago"
        return Finding("certificate", Status.FAILED, said, _RENEW, facts)
    if certificate.begins > now:
        cure = "check this machine's clock, and that of whoever issued it"
        said = f"{said}: holds only from {certificate.begins:%Y-%m-%d %H:%M} UTC"
        return Finding("certificate", Status.FAILED, said, cure, facts)
    if error is not None:
        return Finding(
            "certificate", Status.FAILED, said, _cure_of_refusal(certificate, error), facts
        )
    if days < _SOON_DAYS:
        return Finding("certificate", Status.WARNING, f"{said}, in {days} days", _RENEW, facts)
    return Finding("certificate", Status.OK, said, facts=facts)


_RENEW = "have it renewed"


def _cure_of_refusal(certificate: Certificate, error: InferenceError) -> str:
    if "match" in error.message or "name" in error.message.lower().split("refused")[-1]:
        name = certificate.names[0]
        return f"call the gateway by one of its names, or give --tls-server-name {name}"
    return "give the authority that vouches for it: --tls-ca-file FILE"


def about_models(response: HTTPResponse) -> tuple[Finding, list[str]]:
    """What `/v1/models` said, and the models that it names."""
    status, body = response.status_code, response.body
    text = body[:4096].decode("utf-8", "replace")
    if 300 <= status <= 399:
        return _redirect(response.headers.get("location", "")), []
    if status in (401, 403, 407):
        words = parse_error_body(status, body).message
        said = f"the gateway refuses the key (HTTP {status}: {words})"
        return Finding("key", Status.FAILED, said, f"give the right one: {_CREDENTIALS}"), []
    if 200 <= status <= 299 and (
        has_markup(text) or "html" in response.headers.get("content-type", "")
    ):
        said = "answers with a page for people where an API would answer"
        cure = "a login page or a proxy is in front: check the URL, or what lets programs through"
        return Finding("models", Status.FAILED, said, cure, {"page": short_text(text, 80)}), []
    if status in {404, 405}:
        said = f"no list of models (HTTP {status} at /v1/models)"
        cure = "check --gateway if no answer comes either; else name one: --model NAME"
        return Finding("models", Status.WARNING, said, cure, {"status": status}), []
    if not 200 <= status <= 299:
        said = f"no list of models (HTTP {status}: {parse_error_body(status, body).message})"
        return Finding("models", Status.WARNING, said, "ask who runs the gateway"), []
    return _listed(body)


def _listed(body: bytes) -> tuple[Finding, list[str]]:
    try:
        listed = msgspec.json.decode(body, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = "what stands at /v1/models is no list of models"
        return Finding("models", Status.WARNING, said, "check that --gateway is an API"), []
    models = [model.id for model in listed or ()]
    if not models:
        said = "the list of models is empty: none is served"
        return Finding("models", Status.WARNING, said, "start a model server behind it"), []
    shown = ", ".join(short_text(model, 60) for model in models[:_MOST_NAMED])
    more = f" and {len(models) - _MOST_NAMED} more" if len(models) > _MOST_NAMED else ""
    return Finding("models", Status.OK, shown + more, facts={"models": models}), models


def _redirect(location: str) -> Finding:
    # What follows the path may be a token.
    parts = urlsplit(location)
    to = f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
    to += f":{parts.port}" if parts.hostname and parts.port else ""
    shown = (to + parts.path) or "(nowhere)"
    said = f"the gateway redirects to {shown}, and redirects are not followed"
    cure = f"give where it leads: --gateway {to or 'URL'}"
    return Finding("models", Status.FAILED, said, cure, {"location": shown})


def about_answer(model: str, error: InferenceError | None, seconds: float) -> Finding:
    """Whether a tiny request was answered."""
    facts = {"model": model, "seconds": round(seconds, 4)}
    name = short_text(model, 60)
    if error is None and seconds < _SLOW_SECONDS:
        return Finding("answer", Status.OK, f"{name} answered in {_time(seconds)}", facts=facts)
    if error is None:
        cure = "the gateway is busy, or the model was just loaded; try again, or raise --timeout"
        said = f"{name} took {_time(seconds)} for a few words"
        return Finding("answer", Status.WARNING, said, cure, facts)
    return Finding("answer", Status.FAILED, error.message, _cure_of_no_answer(error), facts)


def _cure_of_no_answer(error: InferenceError) -> str:
    status = error.status_code or 0
    cures = (
        (is_unknown_model(error), "name a model that is served: --model NAME"),
        (isinstance(error, AuthenticationError), f"give the right key: {_CREDENTIALS}"),
        (isinstance(error, RateLimitError), "it refuses for load or quota: later, or ask for more"),
        (isinstance(error, RequestTimeoutError), "the model may be loading, or all is overloaded"),
        (status == 404, "the path leads nowhere: /v1, or what is there instead, is part of a URL"),
        (300 <= status < 400, "give as --gateway where the redirect leads"),
        (status >= 500, "the gateway or a server behind it fails: look at its log"),
    )
    return next((cure for holds, cure in cures if holds), "")


def about_stream(
    error: InferenceError | None, first: float | None, chunks: int, *, usage: bool
) -> list[Finding]:
    """Whether the same came as a stream, and whether that said its tokens."""
    if error is not None:
        said = f"no answer comes as a stream: {error.message}"
        cure = "do without --stream-upstream, and raise --timeout for long answers"
        return [Finding("streaming", Status.WARNING, said, cure)]
    if not chunks or first is None:
        said = "asked for a stream, the gateway answers in one piece"
        cure = "do without --stream-upstream; a proxy in front may hold streams back"
        return [Finding("streaming", Status.WARNING, said, cure)]
    facts = {"first_chunk_seconds": round(first, 4), "chunks": chunks}
    said = f"the first words came after {_time(first)}"
    findings = [Finding("streaming", Status.OK, said, facts=facts)]
    if usage:
        return [*findings, Finding("usage", Status.OK, "streams say how many tokens they took")]
    said = "streams do not say how many tokens they took"
    cure = "limits by tokens (--tpm) are then estimates; newer servers say it"
    return [*findings, Finding("usage", Status.WARNING, said, cure)]


def about_metrics(response: HTTPResponse | None, url: str) -> Finding:
    """Whether the gateway shows how loaded it is."""
    if response is None or response.status_code != 200:
        status = "" if response is None else f" (HTTP {response.status_code})"
        said = f"no page of metrics at {url}{status}"
        cure = "none is needed; that of the model servers or of the picker is often elsewhere"
        return Finding("metrics", Status.NOTE, said, cure)
    if read_page(response.body).is_known:
        said = f"{url} says how loaded the servers are"
        return Finding(
            "metrics", Status.OK, said, f"--gateway-metrics {url} heeds it", {"url": url}
        )
    said = f"{url} says nothing of load that is known, such as {KNOWN_METRICS[0]}"
    return Finding("metrics", Status.NOTE, said, facts={"url": url})


def about_limits(headers: Headers) -> Finding | None:
    """What limits the gateway names in the headers of an answer; None where it names none."""
    found = {
        name.lower(): value
        for name, value in headers.items()
        if name.lower().startswith(("x-ratelimit-", "ratelimit"))
    }
    if not found:
        return None
    words = ", ".join(
        f"{name.removeprefix('x-ratelimit-')} {value}" for name, value in found.items()
    )
    cure = "--learn-rate-limits obeys them"
    return Finding("limits", Status.NOTE, short_text(words, 300), cure, found)


def about_clock(headers: Headers, now: float, seconds: float) -> Finding | None:
    """How far this machine's clock is from the gateway's; None where that tells no time.

    `now` is when the answer had come, in seconds since 1970, and `seconds` what it took.
    """
    try:
        told = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return None
    ahead = now - seconds / 2 - told - 0.5
    facts = {"seconds_ahead": round(ahead, 1)}
    if abs(ahead) <= _CLOCK_TOLERANCE + seconds / 2:
        return Finding("clock", Status.OK, "as the gateway's, to within seconds", facts=facts)
    which = "ahead of" if ahead > 0 else "behind"
    said = f"this machine's clock is {format_duration(abs(round(ahead)))} {which} the gateway's"
    cure = "set the wrong one right (NTP): keys, certificates and deadlines depend on it"
    return Finding("clock", Status.WARNING, said, cure, facts)


def _time(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"
