"""A request as a picker understands it: its model, its prompt, who asks and how urgently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from batch_gateway.simulator.answers.replies import LLMD_REFUSALS, RequestError
from batch_gateway.wire.scheduling_headers import MODEL_REWRITE

__all__ = [
    "IncomingRequest",
    "control_header",
    "parse_request",
    "rewrite_model",
    "rewrite_model_back",
    "without_new_headers",
]

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PROMPT_FIELDS = ("messages", "prompt", "input")
_CANONICAL = "x-llm-d-"


class IncomingRequest(NamedTuple):
    """What was asked.

    Attributes:
        headers: by lower-case name, pseudo-headers included; x-request-id is always there.
        body: as it came.
        model: as the body names it.
        target_model: the model that it is sent on with.
        prompt: what a prefix cache sees of it.
        stream: whether the answer is wanted as events.
        subset: the only endpoints ("ip:port" or "ip") that may serve it; None is any.
    """

    headers: Mapping[str, str]
    body: bytes
    model: str
    target_model: str
    prompt: bytes
    stream: bool
    subset: frozenset[str] | None

    @property
    def id(self) -> str:
        return self.headers["x-request-id"]


def control_header(headers: Mapping[str, str], names: Iterable[str]) -> str:
    """What the first of these headers that says anything says."""
    return next((value for name in names if (value := headers.get(name))), "")


def without_new_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What is left for a picker that knows only the old spelling."""
    return {name: value for name, value in headers.items() if not name.startswith(_CANONICAL)}


def parse_request(
    headers: Mapping[str, str],
    body: bytes,
    subset: frozenset[str] | None,
    rewrites: Mapping[str, str],
) -> IncomingRequest:
    """Read a request to an OpenAI endpoint. Raises RequestError: 400 as the real picker says it."""
    try:
        fields = _FIELDS.decode(body)
        model = msgspec.json.decode(fields.get("model", b'""'), type=str)
        stream = msgspec.json.decode(fields.get("stream", b"null"), type=bool | None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(LLMD_REFUSALS["parse-error"]) from error
    if not model:
        raise RequestError(LLMD_REFUSALS["parse-error"])
    wanted = control_header(headers, MODEL_REWRITE) or rewrites.get(model, model)
    prompt = next((bytes(fields[name]) for name in _PROMPT_FIELDS if name in fields), b"")
    return IncomingRequest(headers, body, model, wanted, prompt, bool(stream), subset)


def rewrite_model(request: IncomingRequest) -> bytes:
    """The body that is sent on: as it came, unless another model is to answer."""
    if request.target_model == request.model:
        return request.body
    fields = _FIELDS.decode(request.body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(request.target_model))
    return msgspec.json.encode(fields)


def rewrite_model_back(request: IncomingRequest, body: bytes) -> bytes:
    """Part of a response with the model's name as the client knows it, where it stands whole."""
    if request.target_model == request.model or not body:
        return body
    target = msgspec.json.encode(request.target_model)
    asked = msgspec.json.encode(request.model)
    for separator in (b'"model":', b'"model": '):
        changed = body.replace(separator + target, separator + asked)
        if changed != body:
            return changed
    return body
