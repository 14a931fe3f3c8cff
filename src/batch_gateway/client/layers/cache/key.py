"""Which requests are identical: a hash of everything that may change an answer.

The body counts in canonical form: keys sorted, no blanks, strings by what they mean, numbers as
they are written. Every parameter counts, `user` and `metadata` too. So do the headers, except
those that trace a request or say when and on whose account it is served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.wire.endpoint import RESPONSES

__all__ = ["answer_key"]

# Raised whenever the same request must not find what an earlier version kept.
_VERSION = 1
_UNIMPORTANT = frozenset({"traceparent", "tracestate", "baggage", "x-request-id", "user-agent"})
# Scheduling: objective, fairness id, time limits (llm-d-router). A model rewrite is none of it.
_SCHEDULING = ("x-llm-d-", "x-gateway-inference-", "x-slo-")
_REWRITE = "model-name-rewrite"

# Literals pass through a float's detour unchanged: 0.10 and 0.1 are two requests, as written.
_decode = msgspec.json.Decoder(
    dict[str, Any], float_hook=lambda text: msgspec.Raw(text.encode())
).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def answer_key(
    request: PreparedRequest, namespace: str, headers: Iterable[tuple[str, str]] = ()
) -> bytes | None:
    """The request's key, 32 bytes; None when its answer is not to be kept.

    `headers` are those that the client sends with every request. Not kept are streams, and
    `/v1/responses` that go on in the background or belong to a conversation: what they answer
    depends on more than the request.
    """
    try:
        params = _decode(request.body)
        body = b"" if _is_stateful(request.endpoint, params) else _encode(params)
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError):
        # JSON that this decoder does not take, such as half an emoji, is known by its bytes.
        body = b"=" + request.body
    if not body:
        return None
    relevant = [
        (name.lower(), value) for name, value in (*headers, *request.headers) if _matters(name)
    ]
    relevant.sort()
    identity = _encode([_VERSION, namespace, request.endpoint, request.model, relevant])
    # The identity is JSON and so tells its own end: nothing in it can pass for body.
    return hashlib.sha256(identity + body).digest()


def _is_stateful(endpoint: str, params: dict[str, Any]) -> bool:
    if params.get("stream"):
        return True
    if endpoint != RESPONSES:
        return False
    return bool(params.get("background")) or params.get("conversation") is not None


def _matters(name: str) -> bool:
    name = name.lower()
    if name in _UNIMPORTANT:
        return False
    return not name.startswith(_SCHEDULING) or name.endswith(_REWRITE)
