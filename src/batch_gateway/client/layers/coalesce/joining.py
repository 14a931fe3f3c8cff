"""Which requests can be joined without anybody noticing, and the request that they become."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.wire.endpoint import COMPLETIONS, EMBEDDINGS

__all__ = ["Single", "join", "read_single"]

_INPUT = {COMPLETIONS: "prompt", EMBEDDINGS: "input"}
# Requests of one trace each are alike all the same; the joint one belongs to the first's trace.
_TRACING = frozenset({"traceparent", "tracestate", "baggage"})

# With any of these the answer to one prompt is more than one choice, or depends on its place in
# the list or on its neighbours, or gateways differ in what they make of it.
_ALONE = frozenset(
    {
        "best_of", "echo", "kv_transfer_params", "logprobs", "n", "prompt_embeds",
        "prompt_logprobs", "return_token_ids", "seed", "stream", "stream_options", "suffix",
        "use_beam_search",
    }
)  # fmt: skip
# What these parameters may be all the same, because it is what leaving them out means.
_HARMLESS = {
    "best_of": (b"null", b"1"),
    "echo": (b"null", b"false"),
    "n": (b"null", b"1"),
    "return_token_ids": (b"null", b"false"),
    "stream": (b"null", b"false"),
    "suffix": (b"null", b'""'),
    "use_beam_search": (b"null", b"false"),
}
_OTHERS_HARMLESS = (b"null",)

_Fields = dict[str, msgspec.Raw]
_decode = msgspec.json.Decoder(_Fields).decode
_decode_tokens = msgspec.json.Decoder(list[int]).decode
_encode = msgspec.json.Encoder().encode


class Single(msgspec.Struct, frozen=True):
    """A request with one prompt.

    Attributes:
        kind: equal for requests that can be joined.
        name: of the parameter that holds the prompt.
        fields: the parameters, as JSON.
        weight: how long the prompt is: its number of tokens where that is known, else of bytes.
    """

    kind: tuple[object, ...]
    name: str
    fields: dict[str, msgspec.Raw]
    weight: int

    @property
    def size(self) -> int:
        """Bytes that it adds to a joint request."""
        return len(bytes(self.fields[self.name])) + 1


def read_single(request: PreparedRequest) -> Single | None:
    """None for a request that must go alone."""
    name = _INPUT.get(request.endpoint)
    if name is None or request.sink is not None:
        return None
    try:
        fields = _decode(request.body)
        prompt = bytes(fields[name])
        tokens = 0 if prompt.startswith(b'"') else len(_decode_tokens(prompt))
    except (msgspec.MsgspecError, UnicodeError, KeyError, RecursionError):
        return None
    if prompt in (b'""', b"[]") or not all(map(_is_joinable, fields.items())):
        return None
    others = sorted((key, bytes(value)) for key, value in fields.items() if key != name)
    headers = sorted(
        (key.lower(), value) for key, value in request.headers if key.lower() not in _TRACING
    )
    # Nobody pays in turns for what others ask.
    for_whom = (request.endpoint, request.model, request.tenant)
    kind = (*for_whom, tokens > 0, tuple(others), tuple(headers))
    return Single(kind, name, fields, tokens or len(prompt))


def _is_joinable(field: tuple[str, msgspec.Raw]) -> bool:
    name, value = field
    return name not in _ALONE or bytes(value) in _HARMLESS.get(name, _OTHERS_HARMLESS)


def join(members: Sequence[tuple[PreparedRequest, Single]]) -> PreparedRequest:
    """One request for all members, which are of one kind.

    Its deadline is the last of theirs: an impatient member leaves by itself and hurries nobody.
    It is due when the first of them is.
    """
    first, single = members[0]
    prompts = [member.fields[member.name] for _, member in members]
    return msgspec.structs.replace(
        first,
        request_id=f"{first.request_id[:500]}+{len(members) - 1}",
        body=_encode({**single.fields, single.name: prompts}),
        started=min(request.started for request, _ in members),
        deadline=max(request.deadline for request, _ in members),
        due=min(request.due for request, _ in members),
    )
