"""Model servers that people run themselves: the forms that their answers are known to have."""

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
    flat_error,
    reply,
)

__all__ = ["ENGINES"]


def vllm_error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


CONTEXT = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the"
    " messages, Please reduce the length of the messages."
)


VLLM = Vendor(
    "vLLM",
    {"http://localhost:8000/v1": "http://localhost:8000/v1/chat/completions"},
    (
        Form(
            "404 for a model that it does not serve",
            reply(404, vllm_error("The model `m` does not exist.", "NotFoundError", 404)),
            "`INVALID_REQ` 404, final",
            "The model `m` does not exist.",
        ),
        Form(
            "400 for a prompt that is too long",
            reply(400, vllm_error(CONTEXT, "BadRequestError", 400)),
            "`INVALID_REQ` 400, final",
            "maximum context length is 4096",
        ),
        Form(
            'the same in the flat form of older versions, `{"object":"error",…}`',
            reply(400, flat_error(CONTEXT, "BadRequestError", 400)),
            "`INVALID_REQ` 400, final",
            "maximum context length is 4096",
        ),
        Form(
            "401 without the key of `--api-key`",
            reply(401, {"error": "Unauthorized"}),
            "`AUTH_ERROR` 401, final",
            "Unauthorized",
        ),
        Form(
            '`finish_reason: "abort"` when the server stops',
            reply(200, chat("Hel", "abort")),
            "`SERVER_ERROR` 200, retried",
            "abort",
        ),
        Form(
            "the same at the end of a stream",
            events(*HELLO, delta("abort")),
            "`SERVER_ERROR` 200, retried",
            "abort",
            "stream",
        ),
        Form(
            "an error event in a stream that has begun",
            events(HELLO[0], vllm_error("EngineCore died", "InternalServerError", 500)),
            "`SERVER_ERROR` 500, retried",
            "EngineCore died",
            "stream",
        ),
        Form(
            "usage in a last chunk without choices",
            events(*HELLO, delta("stop"), USAGE),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
    ),
)


SGLANG = Vendor(
    "SGLang",
    {"http://localhost:30000/v1": "http://localhost:30000/v1/chat/completions"},
    (
        Form(
            "400 for a prompt that is too long",
            reply(
                400,
                flat_error(
                    "The input (61709 tokens) is longer than the model's context length"
                    " (40960 tokens).",
                    "BadRequestError",
                    400,
                ),
            ),
            "`INVALID_REQ` 400, final",
            "longer than the model's context length",
        ),
        Form(
            '`finish_reason: "abort"` with nothing in it',
            reply(200, chat("", "abort", matched_stop=None)),
            "`SERVER_ERROR` 200, retried",
            "abort",
        ),
        Form(
            "`matched_stop` beside the finish reason",
            reply(200, chat("Hello", matched_stop=2)),
            "an answer, its tokens counted",
            '"matched_stop": 2',
        ),
    ),
)


LLAMA_CPP = Vendor(
    "llama.cpp",
    {"http://localhost:8080": "http://localhost:8080/v1/chat/completions"},
    (
        Form(
            "503 while it loads its model",
            reply(
                503,
                {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
            ),
            "`SERVER_ERROR` 503, retried",
            "Loading model",
        ),
        Form(
            "400 for a prompt that is too long, with a number as code",
            reply(
                400,
                {
                    "error": {
                        "code": 400,
                        "message": "the request exceeds the available context size",
                        "type": "exceed_context_size_error",
                    }
                },
            ),
            "`INVALID_REQ` 400, final",
            "exceeds the available context size",
        ),
        Form(
            "the same in a stream, as an `error:` field (older builds)",
            events(
                'error: {"code":400,"message":"the request exceeds the available context size",'
                '"type":"exceed_context_size_error"}\n\n',
                done=False,
            ),
            "`INVALID_REQ` 400, final",
            "exceeds the available context size",
            "stream",
        ),
        Form(
            "401 for a wrong key",
            reply(
                401,
                {
                    "error": {
                        "code": 401,
                        "message": "Invalid API Key",
                        "type": "authentication_error",
                    }
                },
            ),
            "`AUTH_ERROR` 401, final",
            "Invalid API Key",
        ),
        Form(
            "`timings` beside the answer",
            reply(200, {**chat("Hello"), "timings": {"predicted_n": 3}}),
            "an answer, its tokens counted",
            "predicted_n",
        ),
    ),
)


OLLAMA = Vendor(
    "Ollama",
    {"http://localhost:11434/v1": "http://localhost:11434/v1/chat/completions"},
    (
        Form(
            "404 for a model that was not pulled",
            reply(
                404,
                {
                    "error": {
                        "message": 'model "m" not found, try pulling it first',
                        "type": "api_error",
                        "param": None,
                        "code": None,
                    }
                },
            ),
            "`INVALID_REQ` 404, final",
            "try pulling it first",
        ),
        Form(
            "503 when too much waits (`OLLAMA_MAX_QUEUE`)",
            reply(
                503,
                {
                    "error": {
                        "message": "server busy, please try again.  maximum pending requests"
                        " exceeded",
                        "type": "api_error",
                        "param": None,
                        "code": None,
                    }
                },
            ),
            "`SERVER_ERROR` 503, retried",
            "server busy, please try again.",
        ),
        Form(
            "503 of a cloud model, as plain `error`",
            reply(503, {"error": "Server overloaded, please retry shortly (ref: aaa65c70)"}),
            "`SERVER_ERROR` 503, retried",
            "Server overloaded",
        ),
    ),
)


LM_STUDIO = Vendor(
    "LM Studio",
    {"http://localhost:1234/v1": "http://localhost:1234/v1/chat/completions"},
    (
        Form(
            "200 for a path that it does not know, with the error in the body",
            reply(200, {"error": "Unexpected endpoint or method. (POST /v1/v1/chat/completions)"}),
            "`UNKNOWN` 404, final",
            "Unexpected endpoint or method.",
        ),
        Form(
            "404 while no model is loaded",
            reply(
                404,
                {
                    "error": {
                        "message": "No models loaded. Please load a model in the developer page"
                        " or use the `lms load` command.",
                        "type": "invalid_request_error",
                        "param": "model",
                        "code": "model_not_found",
                    }
                },
            ),
            "`INVALID_REQ` 404, final",
            "No models loaded.",
        ),
    ),
)


TGI = Vendor(
    "Text Generation Inference",
    {"http://localhost:8080/v1": "http://localhost:8080/v1/chat/completions"},
    (
        Form(
            "429 when it is full",
            reply(429, {"error": "Model is overloaded", "error_type": "overloaded"}),
            "`RATE_LIMIT` 429, retried",
            "Model is overloaded",
        ),
        Form(
            "422 for a prompt that is too long",
            reply(
                422,
                {
                    "error": "Input validation error: `inputs` must have less than 1024 tokens."
                    " Given: 1100",
                    "error_type": "validation",
                },
            ),
            "`UNKNOWN` 422, final",
            "must have less than 1024 tokens",
        ),
        Form(
            "the same under a 200, as the only event of a stream (2.4)",
            events(
                {
                    "error": "Input validation error: `inputs` must have less than 1024 tokens.",
                    "error_type": "validation",
                },
                done=False,
            ),
            "`INVALID_REQ` 400, final",
            "must have less than 1024 tokens",
            "stream",
        ),
        Form(
            "424 when a generation failed",
            reply(
                424,
                {
                    "error": "Request failed during generation: Server error: CUDA out of memory",
                    "error_type": "generation",
                },
            ),
            "`UNKNOWN` 424, retried",
            "CUDA out of memory",
        ),
    ),
)


TENSORRT_LLM = Vendor(
    "TensorRT-LLM",
    {"http://localhost:8000/v1": "http://localhost:8000/v1/chat/completions"},
    (
        Form(
            "400 in the flat form of `trtllm-serve`",
            reply(400, flat_error("The prompt is too long", "BadRequestError", 400)),
            "`INVALID_REQ` 400, final",
            "The prompt is too long",
        ),
        Form(
            "500 in the same form",
            reply(500, flat_error("Executor failed", "InternalServerError", 500)),
            "`SERVER_ERROR` 500, retried",
            "Executor failed",
        ),
    ),
)


ENGINES = (VLLM, SGLANG, LLAMA_CPP, OLLAMA, LM_STUDIO, TGI, TENSORRT_LLM)
