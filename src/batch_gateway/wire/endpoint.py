"""Which endpoint a request's parameters mean, and which paths may be asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from batch_gateway.errors import InvalidRequestError

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "EMBEDDINGS",
    "ORDINARY",
    "RESPONSES",
    "check_endpoint",
    "determine_endpoint",
]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"

# Parameters that only one of the two endpoints with an `input` knows (OpenAI API reference).
_EMBEDDINGS_ONLY = frozenset({"dimensions", "encoding_format"})
_RESPONSES_ONLY = frozenset(
    {
        "background",
        "conversation",
        "include",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt_cache_key",
        "reasoning",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
    }
)
_CHOICES = (
    "'messages' (chat completions), 'prompt' (completions) or 'input' (embeddings or responses)"
)
ORDINARY = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)+")


def determine_endpoint(params: Mapping[str, Any]) -> str:
    """The endpoint that `params` are for.

    `messages` means `/v1/chat/completions` and `prompt` means `/v1/completions`, except that a
    prompt which is an object is a stored prompt of `/v1/responses`. `input` is shared by two
    endpoints and decided in this order:

    1. by companions: `dimensions` or `encoding_format` mean `/v1/embeddings`; `instructions`,
       `max_output_tokens`, `tools`, `reasoning`, `text`, `temperature` and the other parameters
       that only generation knows mean `/v1/responses`;
    2. by shape: a list of objects is `/v1/responses`, a list of strings or token numbers is
       `/v1/embeddings`.

    A lone string as `input` fits both equally, so it is refused rather than guessed: set the
    request's `endpoint`.

    Raises InvalidRequestError saying what was missing, or which parameters contradict.
    """
    # The usual kind first: asking for an abstract one takes long.
    if not isinstance(params, dict) and not isinstance(params, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"params must be a mapping, not {type(params).__name__}")
    means: dict[str, str] = {}
    if params.get("messages") is not None:
        means["messages"] = CHAT
    prompt = params.get("prompt")
    if prompt is not None:
        means["prompt"] = RESPONSES if isinstance(prompt, Mapping) else COMPLETIONS
    if params.get("input") is not None and means.get("prompt") != RESPONSES:
        means["input"] = _endpoint_of_input(params) if not means else EMBEDDINGS
    if not means:
        raise InvalidRequestError(f"cannot tell the endpoint: params need {_CHOICES}")
    if len(means) > 1:
        both = " and ".join(repr(name) for name in means)
        raise InvalidRequestError(
            f"cannot tell the endpoint: {both} contradict each other; keep one of {_CHOICES}"
        )
    return next(iter(means.values()))


def _endpoint_of_input(params: Mapping[str, Any]) -> str:
    embeddings = sorted(_EMBEDDINGS_ONLY & params.keys())
    responses = sorted(_RESPONSES_ONLY & params.keys())
    if embeddings and responses:
        raise InvalidRequestError(
            f"cannot tell the endpoint: {embeddings[0]!r} is for {EMBEDDINGS} and "
            f"{responses[0]!r} for {RESPONSES}; drop one or set the request's endpoint"
        )
    if embeddings:
        return EMBEDDINGS
    if responses:
        return RESPONSES
    return _endpoint_by_shape(params["input"])


def _endpoint_by_shape(value: object) -> str:
    if isinstance(value, list | tuple) and value:
        first = cast("list[object]", value)[0]
        return RESPONSES if isinstance(first, Mapping) else EMBEDDINGS
    raise InvalidRequestError(
        f"cannot tell the endpoint: 'input' alone fits {EMBEDDINGS} and {RESPONSES}; "
        "set the request's endpoint"
    )


def check_endpoint(endpoint: str) -> str:
    """`endpoint` itself when it is a path below the gateway.

    Raises InvalidRequestError for full URLs, `//host`, `..`, queries, blanks and control
    characters: a request must not be able to leave the gateway it was given.
    """
    if endpoint in ORDINARY:
        return endpoint
    # Callers without a type checker do pass other things.
    if not isinstance(endpoint, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"endpoint must be a string, not {type(endpoint).__name__}")
    if _PATH.fullmatch(endpoint) is None or "/../" in f"{endpoint}/" or "/./" in f"{endpoint}/":
        raise InvalidRequestError(
            f"endpoint {endpoint[:100]!r} is not a relative path such as {CHAT}"
        )
    return endpoint
