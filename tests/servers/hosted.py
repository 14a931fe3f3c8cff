"""Services that people pay for: the forms that their answers are known to have."""

from __future__ import annotations

from typing import Any

from tests.servers.form import (
    HELLO,
    USAGE,
    Form,
    Vendor,
    delta,
    events,
    flat_error,
    reply,
)

__all__ = ["HOSTED"]


def error(**fields: Any) -> dict[str, Any]:
    return {"error": fields}


AZURE = Vendor(
    "Azure OpenAI",
    {
        "https://NAME.openai.azure.com/openai/v1": "https://name.openai.azure.com/openai/v1/chat/completions",
        "https://NAME.openai.azure.com/openai/deployments/D?api-version=2024-10-21": "https://name.openai.azure.com/openai/deployments/D/chat/completions?api-version=2024-10-21",
    },
    (
        Form(
            "429 that says in words how long to wait",
            reply(
                429,
                error(
                    code="429",
                    message="Requests to the ChatCompletions_Create Operation have exceeded token"
                    " rate limit of your current OpenAI S0 pricing tier. Please retry after 26"
                    " seconds.",
                ),
            ),
            "`RATE_LIMIT` 429, retried after 26 s",
            "exceeded token rate limit",
        ),
        Form(
            "400 for a prompt that its filter does not let pass",
            reply(
                400,
                error(
                    message="The response was filtered due to the prompt triggering Azure OpenAI's"
                    " content management policy.",
                    type=None,
                    param="prompt",
                    code="content_filter",
                    status=400,
                ),
            ),
            "`INVALID_REQ` 400, final",
            "content_filter",
        ),
        Form(
            "404 for a deployment that does not exist",
            reply(
                404,
                error(
                    code="DeploymentNotFound",
                    message="The API deployment for this resource does not exist.",
                ),
            ),
            "`INVALID_REQ` 404, final",
            "DeploymentNotFound",
        ),
        Form(
            "a first chunk with `prompt_filter_results` and no choices",
            events(
                {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
                *HELLO,
                delta("stop"),
                USAGE,
            ),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
    ),
)


TOGETHER = Vendor(
    "Together",
    {"https://api.together.xyz/v1": "https://api.together.xyz/v1/chat/completions"},
    (
        Form(
            "400 for a model that is not served without an endpoint of your own",
            reply(
                400,
                {
                    "id": "okkMWqL",
                    **error(
                        message="Unable to access non-serverless model m.",
                        type="invalid_request_error",
                        param=None,
                        code="model_not_available",
                    ),
                },
            ),
            "`INVALID_REQ` 400, final",
            "model_not_available",
        ),
        Form(
            "chunks of a chat that have `text` beside `delta`",
            events(
                *(
                    {
                        "id": "c",
                        "choices": [
                            {
                                "index": 0,
                                "text": text,
                                "delta": {"role": "assistant", "content": text},
                                "finish_reason": finish,
                            }
                        ],
                    }
                    for text, finish in (("Hel", None), ("lo", "stop"))
                ),
                USAGE,
            ),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
    ),
)


GEMINI = Vendor(
    "Gemini",
    {
        "https://generativelanguage.googleapis.com/v1beta/openai": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"
    },
    (
        Form(
            "400 for a wrong key, in a list",
            reply(
                400,
                [
                    error(
                        code=400,
                        message="API key not valid. Please pass a valid API key.",
                        status="INVALID_ARGUMENT",
                    )
                ],
            ),
            "`INVALID_REQ` 400, final",
            "API key not valid",
        ),
        Form(
            "429 with google.rpc.RetryInfo in its details",
            reply(
                429,
                [
                    error(
                        code=429,
                        message="Resource has been exhausted (e.g. check quota).",
                        status="RESOURCE_EXHAUSTED",
                        details=[
                            {
                                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                                "retryDelay": "39s",
                            }
                        ],
                    )
                ],
            ),
            "`RATE_LIMIT` 429, retried after 39 s",
            "Resource has been exhausted",
        ),
        Form(
            "parallel tool calls that all say `index: 0`",
            events(
                *(
                    delta(
                        tool_calls=[
                            {
                                "index": 0,
                                "id": name,
                                "type": "function",
                                "function": {"name": name, "arguments": "{}"},
                            }
                        ]
                    )
                    for name in ("first", "second")
                ),
                delta("tool_calls"),
                USAGE,
            ),
            "an answer, its tokens counted",
            '"name":"second","arguments":"{}"',
            "stream",
        ),
    ),
)


MISTRAL = Vendor(
    "Mistral",
    {"https://api.mistral.ai/v1": "https://api.mistral.ai/v1/chat/completions"},
    (
        Form(
            "429 in the flat form",
            reply(
                429,
                {
                    "object": "error",
                    "message": "Rate limit exceeded",
                    "type": "rate_limited",
                    "param": None,
                    "code": "1300",
                    "raw_status_code": 429,
                },
            ),
            "`RATE_LIMIT` 429, retried",
            "Rate limit exceeded",
        ),
        Form(
            "429 with `message` alone",
            reply(429, {"message": "Requests rate limit exceeded"}),
            "`RATE_LIMIT` 429, retried",
            "Requests rate limit exceeded",
        ),
        Form(
            "422 whose `message` is a list of problems",
            reply(
                422,
                {
                    **flat_error("", "invalid_request_error", 422),
                    "message": {
                        "detail": [
                            {"type": "missing", "loc": ["body", "model"], "msg": "Field required"}
                        ]
                    },
                },
            ),
            "`UNKNOWN` 422, final",
            "Field required",
        ),
        Form(
            "content of a reasoning model as a list of parts",
            events(
                delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
                delta(content="Hello"),
                delta("stop"),
                USAGE,
            ),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
    ),
)


GROQ = Vendor(
    "Groq",
    {"https://api.groq.com/openai/v1": "https://api.groq.com/openai/v1/chat/completions"},
    (
        Form(
            "429 that says in words how long to wait",
            reply(
                429,
                error(
                    message="Rate limit reached for model `m` on tokens per minute (TPM): Limit"
                    " 6000, Used 5034, Requested 1443. Please try again in 4.77s.",
                    type="tokens",
                    code="rate_limit_exceeded",
                ),
            ),
            "`RATE_LIMIT` 429, retried after 4.77 s",
            "Rate limit reached",
        ),
        Form(
            "413 for a request that is larger than a minute's tokens",
            reply(
                413,
                error(
                    message="Request too large for model `m` on tokens per minute (TPM): Limit"
                    " 6000, Requested 14368, please reduce your message size and try again.",
                    type="tokens",
                    code="rate_limit_exceeded",
                ),
            ),
            "`UNKNOWN` 413, final",
            "Request too large for model",
        ),
        Form(
            "usage in `x_groq` of the last chunk",
            events(
                *HELLO,
                {**delta("stop"), "x_groq": {"id": "req", "usage": USAGE["usage"]}},
            ),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
    ),
)


DEEPSEEK = Vendor(
    "DeepSeek",
    {"https://api.deepseek.com": "https://api.deepseek.com/v1/chat/completions"},
    (
        Form(
            "402 without balance, with a code that says otherwise",
            reply(
                402,
                error(
                    message="Insufficient Balance",
                    type="unknown_error",
                    param=None,
                    code="invalid_request_error",
                ),
            ),
            "`UNKNOWN` 402, final",
            "Insufficient Balance",
        ),
        Form(
            "comments that keep a stream open (`: keep-alive`)",
            events(*HELLO, delta("stop"), USAGE, before=": keep-alive\n\n" * 3),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
        Form(
            "reasoning beside the content (`reasoning_content`)",
            events(
                delta(role="assistant", content=None, reasoning_content="hm"),
                delta(content="Hello", reasoning_content=None),
                delta("stop"),
                USAGE,
            ),
            "an answer, its tokens counted",
            '"reasoning_content":"hm"',
            "stream",
        ),
    ),
)


HOSTED = (AZURE, TOGETHER, GEMINI, MISTRAL, GROQ, DEEPSEEK)
