"""Which bodies of a 2xx status are answers, and what the others are worth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.answer_judge import judge_answer, judge_value

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RESPONSES, MODERATIONS = "/v1/embeddings", "/v1/responses", "/v1/moderations"
CUSTOM = "/rerank"

CHOICE: dict[str, Any] = {
    "index": 0,
    "message": {"role": "assistant", "content": "Hi"},
    "finish_reason": "stop",
}
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"object": "chat.completion", "choices": [CHOICE]},
    COMPLETIONS: {"object": "text_completion", "choices": [{"text": "Hi", "index": 0}]},
    EMBEDDINGS: {"object": "list", "data": [{"object": "embedding", "embedding": [0.5, 1]}]},
    RESPONSES: {"object": "response", "status": "completed", "output": [], "error": None},
    MODERATIONS: {"id": "m", "results": [{"flagged": False}]},
    CUSTOM: {"results": [], "detail": "by score", "message": "done"},
}
# What says an error whatever else is in a body.
ERRORS: list[dict[str, Any]] = [
    {"error": "Unexpected endpoint or method. (POST /v1/v1/chat/completions)"},  # LM Studio
    {"error": {"message": "Provider returned error", "code": 502}},  # OpenRouter
    {"error": {"message": "slow down", "code": "429"}},
    {"error": ["boo"]},
    {"error": True},
    {"error": 17},
    {"object": "error", "message": "no", "code": 400},  # vLLM up to 0.9, SGLang
    {"type": "error", "message": "overloaded"},
    {"error_code": 17, "error_msg": "Open api daily request limit reached"},  # Baidu
    {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},  # MiniMax
    {"success": False, "errors": [{"code": 5007, "message": "No such model"}]},  # Cloudflare
    {"success": False},
    {"errors": ["boo"]},
    {"fault": {"faultstring": "Rate limit quota violation"}},  # Apigee
    {"ok": False, "description": "no such model"},
    {"success": 0, "message": "boo"},
    {"x_groq": {"id": "req_1", "error": "the model went away"}},  # Groq
]
# What always stands there in some servers' answers, and says nothing.
HARMLESS: list[dict[str, Any]] = [
    {"error": None},
    {"error": {}},
    {"error": ""},
    {"error": {"code": None, "message": None}},
    {"error": {"code": 0, "message": "success"}},
    {"error": {"code": 200, "message": "OK"}},
    {"error": False},
    {"error": {"code": None, "message": "success"}},
    {"error": {"status": "ok"}},
    {"error": "no_error"},
    {"error": "N/A"},
    {"ok": True, "x_groq": {"id": "req_1", "error": None}},
    {"errors": [], "success": True},
    {"error_code": 0, "error_msg": ""},
    {"error_code": "0", "error_msg": "ok"},
    {"base_resp": {"status_code": 0, "status_msg": ""}},
    {"base_resp": None},
    {"code": 0, "message": "success"},
    {"code": 200, "msg": "error-free"},
    {"object": None, "type": None},
]
OTHERS = st.dictionaries(
    st.text().map(lambda name: f"x_{name}"), st.none() | st.booleans() | st.integers() | st.text()
)


def body(value: object) -> bytes:
    return json.dumps(value).encode()


@given(st.sampled_from([*GOOD]), OTHERS)
def test_an_answer_stays_one_whatever_a_server_adds(
    endpoint: str, others: dict[str, object]
) -> None:
    for value in ({**GOOD[endpoint], **others}, {**others, **GOOD[endpoint]}):
        assert judge_answer(endpoint, body(value)) is None
        assert judge_value(endpoint, value) is None


@pytest.mark.parametrize("endpoint", GOOD)
@pytest.mark.parametrize("harmless", HARMLESS, ids=json.dumps)
def test_an_empty_form_of_an_error_is_none(endpoint: str, harmless: dict[str, Any]) -> None:
    value = {**GOOD[endpoint], **harmless}
    assert judge_answer(endpoint, body(value)) is None
    assert judge_value(endpoint, value) is None


@pytest.mark.parametrize("endpoint", GOOD)
@pytest.mark.parametrize("error", ERRORS, ids=json.dumps)
def test_an_error_is_one_even_beside_an_answer(endpoint: str, error: dict[str, Any]) -> None:
    for value in (error, {**GOOD[endpoint], **error}, [error]):
        assert judge_answer(endpoint, body(value)) is not None
        assert judge_value("", value) is not None


@given(st.sampled_from([*GOOD]), st.sampled_from(ERRORS), OTHERS)
def test_an_error_stays_one_whatever_a_server_adds(
    endpoint: str, error: dict[str, Any], others: dict[str, object]
) -> None:
    for value in ({**others, **error}, {**error, **others, **GOOD[endpoint], **error}):
        assert judge_answer(endpoint, body(value)) is not None


@pytest.mark.parametrize(
    ("endpoint", "value", "says"),
    [
        (CHAT, {}, "it has no 'choices'"),
        (CHAT, {"choices": []}, "its 'choices' are empty"),
        (CHAT, {"choices": None, "error": {}}, "it has no 'choices'"),
        (CHAT, {"choices": {}}, "it has no 'choices'"),
        (CHAT, {"choices": [CHOICE, {"text": "Hi"}]}, "one of its 'choices' has no message"),
        (CHAT, {"choices": ["Hi"]}, "one of its 'choices' has no message"),
        (CHAT, {"choices": [{"message": "Hi"}]}, "one of its 'choices' has no message"),
        (CHAT, {"usage": {"prompt_tokens": 1}}, "it has no 'choices'"),
        (COMPLETIONS, {"choices": [CHOICE]}, "one of its 'choices' has no text"),
        (COMPLETIONS, {"content": "Hi"}, "it has no 'choices'"),
        (EMBEDDINGS, {"data": []}, "its 'data' are empty"),
        (EMBEDDINGS, {"data": [{"embedding": []}]}, "one of its 'data' has no embedding"),
        (EMBEDDINGS, {"data": [{"embedding": None}]}, "one of its 'data' has no embedding"),
        (EMBEDDINGS, {"data": [{"embedding": [1]}, {}]}, "one of its 'data' has no embedding"),
        (MODERATIONS, {"results": []}, "its 'results' are empty"),
        (RESPONSES, {"status": "completed"}, "it has no 'output'"),
        (RESPONSES, {"id": "r"}, "it has no 'output'"),
        ("/openai/v1/embeddings", {"data": []}, "its 'data' are empty"),
        ("/openai/deployments/gpt/chat/completions", {}, "it has no 'choices'"),
        (CHAT, {"detail": "backend overloaded"}, "backend overloaded"),
        (CHAT, {"code": 1, "message": "queue is full"}, "queue is full"),
    ],
)
def test_an_answer_without_what_was_asked_for_is_none(
    endpoint: str, value: object, says: str
) -> None:
    fault = judge_answer(endpoint, body(value))
    assert fault is not None
    assert fault.problem == f"with no answer in it: {says}"
    assert fault.status is None
    assert fault.is_retryable is None


@pytest.mark.parametrize(
    ("endpoint", "value"),
    [
        (CHAT, {"choices": [{"message": {"content": None, "tool_calls": [{}]}}]}),
        (CHAT, {"choices": [{**CHOICE, "finish_reason": None}]}),
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "MAX_TOKENS"}]}),
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "content_filter"}]}),
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "model_context_window_exceeded"}]}),
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "ERROR_TOXIC"}]}),
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "MALFORMED_FUNCTION_CALL"}]}),
        (CHAT, {"choices": [{**CHOICE, "stop_reason": "abort"}]}),  # a stop word of the user
        (CHAT, {"choices": [{**CHOICE, "error": None}]}),
        (CHAT, {"choices": [{"message": {"content": '{"error":{"code":500}}'}}]}),
        (CHAT, {"choices": [{"message": {"content": "error: abort"}}]}),
        (CHAT, {"choices": [CHOICE], "object": "chat_completion"}),
        (COMPLETIONS, {"choices": [{"text": ""}]}),
        (EMBEDDINGS, {"data": [{"embedding": "AACAPw=="}]}),
        (EMBEDDINGS, {"data": [{"embedding": [[1, 2], [3]]}]}),
        (RESPONSES, {"status": "incomplete", "output": [], "incomplete_details": {"reason": "x"}}),
        (RESPONSES, {"output": [{"type": "mcp_call", "error": "no such tool"}]}),
        ("/completions", {"content": "Hi"}),  # llama.cpp's own
        ("/embed", {"embeddings": [[1]]}),
        (CUSTOM, {}),
        (CUSTOM, {"message": "Good morning"}),
        (CUSTOM, {"message": "Good morning", "request_id": "1"}),
        (CUSTOM, {"code": "0", "message": "Good morning", "data": None}),
        (CUSTOM, {"code": "print('Hi')", "message": "Here it is"}),
        (CUSTOM, {"code": 20, "message": "Hi", "results": [1]}),
        (CUSTOM, {"message": {"role": "assistant", "content": "Hi"}, "done": True}),  # Ollama
        (CUSTOM, {"Response": {"RequestId": "1", "Data": [1]}}),  # Tencent Cloud
        (CUSTOM, {"ResponseMetadata": {"RequestId": "1"}, "Result": [1]}),  # Volcengine
    ],
)
def test_an_odd_answer_is_one_all_the_same(endpoint: str, value: object) -> None:
    assert judge_answer(endpoint, body(value)) is None


@pytest.mark.parametrize(
    ("endpoint", "value", "status", "code"),
    [
        (CHAT, {"error": {"message": "x", "code": 502}}, 502, "502"),
        (CHAT, {"error": {"message": "x", "code": "429"}}, 429, "429"),
        (CHAT, {"object": "error", "message": "x", "code": 400}, 400, "400"),
        (CHAT, {"code": 500, "message": "x"}, 500, "500"),
        (CHAT, {"choices": [{"error": {"code": 503}, "finish_reason": "error"}]}, 503, "503"),
        (CHAT, {"choices": [CHOICE, {**CHOICE, "error": {"code": 429}}]}, 429, "429"),
        (CUSTOM, {"statusCode": 502, "message": "Bad Gateway"}, 502, None),
        (CUSTOM, {"status": 404, "title": "Not Found"}, 404, None),
        (CHAT, {"error": "Unexpected endpoint or method. (POST /v1/v1/chat)"}, 404, None),
        (CHAT, {"error": "Cannot POST /v1/v1/chat"}, 404, None),
        (CHAT, {"error": {"message": "Invalid URL (POST /v1/v1/chat)", "code": None}}, 404, None),
        (CHAT, {"error": "failed to POST to the backend"}, None, None),
        (CHAT, {"error": {"message": "x", "code": 5007}}, None, "5007"),
        (CUSTOM, {"detail": "busy"}, None, None),
        (CUSTOM, {"status": "error"}, None, None),
        # Alibaba Model Studio, SiliconFlow, Bedrock, AWS, Tencent Cloud, Volcengine
        (
            CUSTOM,
            {"code": "InvalidApiKey", "message": "x", "request_id": "1"},
            401,
            "InvalidApiKey",
        ),
        (CUSTOM, {"code": 20012, "message": "no such model", "data": None}, None, "20012"),
        (CUSTOM, {"__type": "com.x#ThrottlingException", "message": "x"}, 429, None),
        (CUSTOM, {"Message": "User is not authorized"}, None, None),
        (
            CUSTOM,
            {"Response": {"Error": {"Code": "AuthFailure.SecretIdNotFound", "Message": "x"}}},
            401,
            "AuthFailure.SecretIdNotFound",
        ),
        (
            CUSTOM,
            {"ResponseMetadata": {"Error": {"Code": "InvalidCredential", "Message": "x"}}},
            401,
            "InvalidCredential",
        ),
        (CHAT, {"code": "DataInspectionFailed", "message": "x"}, 400, "DataInspectionFailed"),
        (CHAT, {"choices": [CHOICE], "x_groq": {"error": "x"}}, None, None),
    ],
)
def test_an_error_has_the_status_that_it_names(
    endpoint: str, value: object, status: int | None, code: str | None
) -> None:
    fault = judge_answer(endpoint, body(value))
    assert fault is not None
    assert (fault.status, fault.code) == (status, code)


@pytest.mark.parametrize(
    "reason",
    [
        *("abort", "aborted", "error", "cancelled", "timeout", "ABORT"),
        *("insufficient_system_resource", {"type": "abort"}),
        *("network_error", "USER_CANCEL", "internal_error", "preempted"),
    ],
)
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_an_aborted_generation_is_no_answer_and_worth_a_retry(
    endpoint: str, reason: object
) -> None:
    choices = [
        *GOOD[endpoint]["choices"],
        {**GOOD[endpoint]["choices"][0], "finish_reason": reason},
    ]
    fault = judge_answer(endpoint, body({"choices": choices}))
    assert fault is not None
    assert "aborted" in fault.problem
    assert (fault.status, fault.code, fault.is_retryable) == (None, "aborted", None)


def test_an_abort_that_says_why_is_that_error() -> None:
    reason = {"type": "abort", "message": "input is too long", "status_code": 400}
    fault = judge_answer(CHAT, body({"choices": [{**CHOICE, "finish_reason": reason}]}))
    assert fault is not None
    assert (fault.status, fault.problem) == (400, "with error 400 in it: input is too long")


@pytest.mark.parametrize(
    ("value", "retryable", "says"),
    [
        ({"status": "failed", "error": None, "output": []}, None, "failed"),
        ({"status": "failed", "error": {"code": "server_error", "message": "x"}}, None, "x"),
        ({"status": "cancelled", "output": []}, None, "cancelled"),
        ({"status": "CANCELED", "output": []}, None, "CANCELED"),
        ({"status": "expired", "output": []}, None, "expired"),
        ({"status": "queued", "output": []}, False, "background"),
        ({"status": "in_progress", "output": []}, False, "background"),
    ],
)
def test_a_response_that_is_not_complete_is_no_answer(
    value: object, retryable: bool | None, says: str
) -> None:
    fault = judge_answer(RESPONSES, body(value))
    assert fault is not None
    assert says in fault.problem
    assert fault.is_retryable is retryable


def test_a_byte_order_mark_is_no_obstacle() -> None:
    assert judge_answer(CHAT, b"\xef\xbb\xbf" + body(GOOD[CHAT])) is None


@given(st.sampled_from([*GOOD, "", "x"]), st.binary() | st.text().map(str.encode))
def test_any_bytes_get_the_same_verdict_each_time(endpoint: str, data: bytes) -> None:
    fault = judge_answer(endpoint, data)
    assert fault == judge_answer(endpoint, data)
    assert fault is None or 0 < len(fault.problem) < 500


NAMES = st.sampled_from(
    [
        *("error", "errors", "choices", "data", "message", "text", "finish_reason", "status"),
        *("code", "detail", "object", "base_resp", "success", "output", "embedding", "type"),
        *("ok", "x_groq", "Message", "Error", "Response", "__type"),
    ]
)
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 200, 429, "", "error", "abort", "x", "404", 1e300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from([*GOOD]), VALUES)
def test_the_quick_test_and_the_thorough_one_agree(endpoint: str, value: object) -> None:
    fault = judge_answer(endpoint, body(value))
    if isinstance(value, dict):
        assert fault == judge_value(endpoint, value)
    else:
        assert fault is not None
