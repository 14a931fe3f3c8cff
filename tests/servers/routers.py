"""Routers and proxies before model servers: the forms that their answers are known to have."""

from __future__ import annotations

from typing import Any

from tests.servers.form import (
    HELLO,
    USAGE,
    Form,
    Vendor,
    chat,
    delta,
    events,
    framed,
    reply,
)

__all__ = ["ROUTERS"]


def router(status: int, words: str, reason: str = "") -> bytes:
    named = {"x_llm_d_request_dropped_reason": reason} if reason else {}
    return reply(status, words, **named)


def error(**fields: Any) -> dict[str, Any]:
    return {"error": fields}


LLM_D = Vendor(
    "llm-d",
    {"http://llm-d-gateway/v1": "http://llm-d-gateway/v1/chat/completions"},
    (
        Form(
            "429 `rejected-saturated`: the queue is full",
            router(429, "inference error: ResourceExhausted - queue full", "rejected-saturated"),
            "`RATE_LIMIT` 429, retried",
            "rejected-saturated",
        ),
        Form(
            "429 `rejected-ttl-expired`, no limit being asked for",
            router(429, "inference error: ResourceExhausted - TTL expired", "rejected-ttl-expired"),
            "`RATE_LIMIT` 429, retried",
            "rejected-ttl-expired",
        ),
        Form(
            "503 `rejected-no-endpoints`: no model server",
            router(503, "inference error: ServiceUnavailable - none", "rejected-no-endpoints"),
            "`SERVER_ERROR` 503, retried",
            "rejected-no-endpoints",
        ),
        Form(
            "429 `evicted`: given up for a more urgent request",
            router(429, "request evicted by flow control", "evicted"),
            "`RATE_LIMIT` 429, retried",
            "evicted",
        ),
        Form(
            "500 `request cannot be admitted`: shed",
            router(500, "inference error: Internal - request cannot be admitted"),
            "`SERVER_ERROR` 500, retried",
            "request cannot be admitted",
        ),
        Form(
            "400 for what it cannot parse",
            router(400, "inference error: BadRequest - model not found in request body"),
            "`INVALID_REQ` 400, final",
            "model not found in request body",
        ),
    ),
)


GAIE = Vendor(
    "GAIE",
    {
        "http://inference-gateway": "http://inference-gateway/v1/chat/completions",
    },
    (
        Form(
            "500 without a body when the endpoint picker is down",
            framed(500, b"", "text/plain"),
            "`SERVER_ERROR` 500, retried",
            "no body",
        ),
        Form(
            "503 of Envoy's when no pod is healthy",
            reply(503, "no healthy upstream"),
            "`SERVER_ERROR` 503, retried",
            "no healthy upstream",
        ),
        Form(
            "413 of Envoy's for a body over its limit",
            reply(413, "Payload Too Large"),
            "`UNKNOWN` 413, final",
            "Payload Too Large",
        ),
        Form(
            "429 for work that may be shed",
            reply(429, "system saturated, sheddable request dropped"),
            "`RATE_LIMIT` 429, retried",
            "sheddable request dropped",
        ),
    ),
)


LITELLM = Vendor(
    "LiteLLM proxy",
    {"http://localhost:4000": "http://localhost:4000/v1/chat/completions"},
    (
        Form(
            "429 whose code is text",
            reply(
                429,
                error(
                    message="litellm.RateLimitError: AzureException RateLimitError - slow down",
                    type="throttling_error",
                    param=None,
                    code="429",
                ),
            ),
            "`RATE_LIMIT` 429, retried",
            "litellm.RateLimitError",
        ),
        Form(
            '429 while all its deployments rest, with `"None"` for what is missing',
            reply(
                429,
                error(
                    message="No deployments available for selected model.",
                    type="None",
                    param="None",
                    code="429",
                ),
            ),
            "`RATE_LIMIT` 429, retried",
            "No deployments available for selected model.",
        ),
        Form(
            "an error event in a stream",
            events(
                HELLO[0],
                error(message="litellm.APIError: gone", type="None", param="None", code="500"),
            ),
            "`SERVER_ERROR` 500, retried",
            "litellm.APIError: gone",
            "stream",
        ),
        Form(
            "401 for an unknown virtual key",
            reply(
                401,
                error(
                    message="Authentication Error, Invalid proxy server token passed.",
                    type="auth_error",
                    param="None",
                    code="401",
                ),
            ),
            "`AUTH_ERROR` 401, final",
            "Invalid proxy server token",
        ),
    ),
)


OPENROUTER = Vendor(
    "OpenRouter",
    {"https://openrouter.ai/api/v1": "https://openrouter.ai/api/v1/chat/completions"},
    (
        Form(
            "200 with a provider's error in the body",
            reply(
                200,
                error(
                    message="Provider returned error",
                    code=502,
                    metadata={
                        "provider_name": "Kluster",
                        "raw": '{"error":{"message":"upstream connect error"}}',
                    },
                ),
            ),
            "`SERVER_ERROR` 502, retried",
            "upstream connect error",
        ),
        Form(
            "the same with code 429, beside an empty choice",
            reply(
                200,
                {
                    **chat(None),
                    **error(
                        message="Provider returned error",
                        code=429,
                        metadata={"raw": "error code: 1015", "provider_name": "Kluster"},
                    ),
                },
            ),
            "`RATE_LIMIT` 429, retried",
            "error code: 1015",
        ),
        Form(
            "429 of a free model",
            reply(429, error(message="Rate limit exceeded: limit_rpd/free", code=429)),
            "`RATE_LIMIT` 429, retried",
            "limit_rpd/free",
        ),
        Form(
            "402 without credits",
            reply(402, error(message="Insufficient credits", code=402)),
            "`UNKNOWN` 402, final",
            "Insufficient credits",
        ),
        Form(
            "comments that keep a stream open (`: OPENROUTER PROCESSING`)",
            events(*HELLO, delta("stop"), USAGE, before=": OPENROUTER PROCESSING\n\n" * 3),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
        Form(
            'an error in the last chunk of a stream, with `finish_reason: "error"`',
            events(
                *HELLO,
                {**delta("error", content=""), **error(code=502, message="Provider disconnected")},
            ),
            "`SERVER_ERROR` 502, retried",
            "Provider disconnected",
            "stream",
        ),
    ),
)


ROUTERS = (LLM_D, GAIE, LITELLM, OPENROUTER)
