"""Error bodies as real servers send them: the words, code, status and wait in each are found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batch_gateway.wire.error_body import ErrorDetail, parse_error_body

GOOGLE = {"code": 400, "message": "Invalid value at 'x'", "status": "INVALID_ARGUMENT"}
RAW = '{"error":{"message":"model is at capacity","type":"rate_limit_error"}}'


def said(body: bytes | str | Any, status: int = 502) -> ErrorDetail:
    if isinstance(body, str):
        body = body.encode()
    return parse_error_body(status, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("server", "body", "message", "code"),
    [
        ("Gemini", [{"error": GOOGLE}], "Invalid value at 'x'", "400"),
        ("Gemini", {"error": GOOGLE}, "Invalid value at 'x'", "400"),
        (
            "Workers AI",
            {"errors": [{"code": 5007, "message": "No such model"}]},
            "No such model",
            "5007",
        ),
        (
            "Workers AI",
            {"success": False, "errors": [{"message": "a"}, {"message": "b"}], "result": None},
            "a; b",
            None,
        ),
        ("Kong", {"errors": ["not allowed"]}, "not allowed", None),
        ("a proxy", {"error": ["not allowed", "at all"]}, "not allowed; at all", None),
        ("LiteLLM", {"error": {"error": {"message": "deep"}}}, "deep", None),
        ("a proxy", {"error": {"error": {"error": {"error": "deepest"}}}}, "deepest", None),
        ("Gitee", {"msg": "short"}, "short", None),
        ("Apigee", {"fault": {"faultstring": "Spike arrest"}}, "Spike arrest", None),
        (
            "Apigee",
            {"fault": {"faultstring": "Spike", "detail": {"errorcode": "policies.QuotaViolation"}}},
            "Spike",
            "policies.QuotaViolation",
        ),
        ("API Gateway", {"Message": "not authorized"}, "not authorized", None),
        ("Bedrock", {"__type": "ValidationException", "Message": "bad model"}, "bad model", None),
        ("FastAPI", {"detail": {"error": {"message": "inner", "code": 7}}}, "inner", "7"),
        ("FastAPI", {"detail": {"message": "inner"}}, "inner", None),
        ("FastAPI", {"detail": ["one", "two"]}, "one; two", None),
        ("a proxy", {"message": {"error": {"message": "inside"}}}, "inside", None),
        ("a proxy", {"message": {"text": "inside"}}, '{"text":"inside"}', None),
        (
            "NestJS",
            {"statusCode": 404, "message": "Cannot POST /v1", "error": "Not Found"},
            "Cannot POST /v1",
            None,
        ),
        (
            "NestJS",
            {"statusCode": 400, "message": ["a must be b"], "error": "Bad Request"},
            "a must be b",
            None,
        ),
        (
            "OAuth",
            {"error": "invalid_token", "error_description": "it expired"},
            "it expired",
            "invalid_token",
        ),
        (
            "Spring",
            {"status": 503, "error": "Service Unavailable", "path": "/v1"},
            "Service Unavailable",
            None,
        ),
        (
            "RFC 9457",
            {"type": "https://x.io/a", "title": "Forbidden", "status": 403, "detail": "no seat"},
            "no seat",
            None,
        ),
        (
            "RFC 9457",
            {"type": "about:blank", "title": "Forbidden", "status": 403},
            "Forbidden",
            None,
        ),
        (
            "TGI",
            {"error": "Input is too long", "error_type": "validation"},
            "Input is too long",
            None,
        ),
        ("Ollama", {"error": "model 'x' not found"}, "model 'x' not found", None),
        (
            "Anthropic",
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            "Overloaded",
            None,
        ),
        (
            "Mistral",
            {
                "object": "error",
                "message": "slow",
                "type": "service_tier_capacity_exceeded",
                "code": "3505",
            },
            "slow",
            "3505",
        ),
        ("ERNIE", {"error_code": 17, "error_msg": "daily limit"}, "daily limit", "17"),
        (
            "MiniMax",
            {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
            "insufficient balance",
            None,
        ),
        (
            "Volcengine",
            {"ResponseMetadata": {"Error": {"Code": "InvalidAccessKey", "Message": "who?"}}},
            "who?",
            "InvalidAccessKey",
        ),
        (
            "ASP.NET",
            {"title": "Validation errors.", "status": 400, "errors": {"Model": ["required"]}},
            'Validation errors. {"Model":["required"]}',
            None,
        ),
        ("Laravel", {"message": "Invalid.", "errors": {"m": ["a"]}}, 'Invalid. {"m":["a"]}', None),
        ("Rails", {"errors": {"message": "no seat"}, "message": "x"}, "no seat", None),
        ("a word", {"error": "unauthorized"}, "unauthorized", None),
        ("a flag", {"error": True, "message": "it failed"}, "it failed", None),
        ("JSON in a string", json.dumps({"error": {"message": "wrapped"}}), "wrapped", None),
        (
            "JSON in a message",
            {"message": json.dumps({"error": {"message": "wrapped"}})},
            "wrapped",
            None,
        ),
        ("a form nobody knows", {"tip": "read the manual"}, '{"tip":"read the manual"}', None),
        ("an empty list", {"error": []}, "Bad Gateway", None),
        (
            "WeChat",
            {"errcode": 45009, "errmsg": "reach max api limit"},
            "reach max api limit",
            "45009",
        ),
        ("nothing in it", {"error": {}}, "Bad Gateway", None),
        (
            "OpenRouter",
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 429,
                    "metadata": {"raw": RAW, "provider_name": "Chutes"},
                }
            },
            "Provider returned error (Chutes: model is at capacity)",
            "429",
        ),
        (
            "OpenRouter",
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": "upstream hung up"},
                }
            },
            "Provider returned error (upstream hung up)",
            None,
        ),
        (
            "OpenRouter",
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": json.loads(RAW), "provider_name": "X"},
                }
            },
            "Provider returned error (X: model is at capacity)",
            None,
        ),
        (
            "OpenRouter",
            {"error": {"message": "No credits", "code": 402, "metadata": {"provider_name": "X"}}},
            "No credits (X)",
            "402",
        ),
    ],
)
def test_the_words_and_code_of_json(server: str, body: Any, message: str, code: str | None) -> None:
    detail = said(body)
    assert (detail.message, detail.code) == (message, code)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_any_unicode_encoding(encoding: str) -> None:
    text = '{"error":{"message":"größer","code":"x"}}'
    detail = said(text.encode(encoding))
    assert (detail.message, detail.code) == ("größer", "x")


@pytest.mark.parametrize(
    "body",
    [
        'data: {"error":{"message":"no seat","code":"full"}}\n\n',
        'data: {"error":{"message":"no seat","code":"full"}}\n\ndata: [DONE]\n\n',
        'event: error\r\ndata: {"message":"no seat","code":"full"}\r\n\r\n',
        ': hello\n\nid: 1\ndata: {"error":\ndata: {"message":"no seat","code":"full"}}\n',
        'error: {"code":"full","message":"no seat","type":"unavailable_error"}\n\n',
        'data: {}\n\ndata:{"error":{"message":"no seat","code":"full"}}',
        '\ufeffdata: {"errors":[{"message":"no seat","code":"full"}]}\n\n',
        '{"error":{"message":"no seat","code":"full"}}\n{"error":{"message":"again"}}\n',
        '{"error":{"message":"no seat","code":"full"}} \n{"done":true}',
        '{"error":{"message":"no seat","code":"full"},"trace":"at lib.ts:1',
        '{"code":"full","error":{"message":"no seat","param":',
        '{"error":{"code":"full","message":"no seat","value":NaN}}',
        '{"error":{"code":"full","message":"no seat"},}',
        '<?xml version="1.0"?><Error><Code>full</Code><Message>no seat</Message><Id>x</Id></Error>',
        '<ErrorResponse xmlns="x"><Error><Code>full</Code><Message>no\nseat</Message>',
        "<Error><Code>full</Code><Message><![CDATA[no seat]]></Message></Error>",
    ],
)
def test_the_words_and_code_of_what_is_not_quite_json(body: str) -> None:
    detail = said(body)
    assert (detail.message, detail.code) == ("no seat", "full")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("data: the pod is gone\n\n", "the pod is gone"),
        ("event: error\ndata: gone\n\n", "gone"),
        ('{"error":{"message":"cut in the mid', "cut in the mid"),
        ('{"error":{"message":"caf\\u00e9 \\u26', "café"),
        ('{"error":{"message":"a \\"quoted\\" word\\', 'a "quoted" word'),
        ('{"detail":"cut', "cut"),
        ('{"error":"cut', "cut"),
        ("{nothing at all", "{nothing at all"),
        ("<html><head><title></title></head><body><h1>Too busy</h1>", "Too busy"),
        ("<HTML><HEAD><TITLE>502 Bad Gateway</TITLE></HEAD>", "502 Bad Gateway"),
        ("<title>cut sho", "cut sho"),
        ("<!-- <title>no</title> --><title>yes</title>", "yes"),
        (
            "<script>if (a<b) x='<title>no</title>'</script><p>Sorry &mdash; gone</p>",
            "Sorry — gone",
        ),
        ("<style>p > b {}</style><div>Only <b>text</b></div>", "Only text"),
        ("<p>x &#99999999999999999999; y</p>", "x &#99999999999999999999; y"),
        ("a < b and c > d", "a < b and c > d"),
        (
            "<soap:Envelope><soap:Fault><faultstring>no</faultstring></soap:Fault></soap:Envelope>",
            "no",
        ),
        (
            "upstream connect error or disconnect/reset before headers",
            "upstream connect error or disconnect/reset before headers",
        ),
        ("right \u202eto left", "right to left"),
    ],
)
def test_the_words_of_everything_else(body: str, message: str) -> None:
    assert said(body).message == message


def json_error(**fields: Any) -> dict[str, Any]:
    return {"error": {"message": "m", **fields}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json_error(code=429), 429),
        (json_error(code="503"), 503),
        (json_error(status=401), 401),
        (json_error(status_code="404"), 404),
        ({"message": "m", "statusCode": 413}, 413),
        ({"title": "m", "status": 403}, 403),
        ({"code": 502, "error": {"message": "m"}}, 502),
        (json_error(code="rate_limit_exceeded"), 429),
        (json_error(type="RateLimitError"), 429),
        (json_error(code="TooManyRequests"), 429),
        (json_error(code="too_many_requests"), 429),
        (json_error(code="ResourceExhausted"), 429),
        (json_error(status="RESOURCE_EXHAUSTED"), 429),
        (json_error(code="insufficient_quota", type="insufficient_quota"), 429),
        ({"__type": "com.amazon.coral#ThrottlingException", "message": "m"}, 429),
        (json_error(code="1302", type="rate_limit_error"), 429),
        (json_error(type="invalid_request_error", code="rate_limit_exceeded"), 429),
        (json_error(type="overloaded_error"), 503),
        (json_error(status="UNAVAILABLE"), 503),
        (json_error(type="unavailable_error"), 503),
        (json_error(status="DEADLINE_EXCEEDED"), 504),
        (json_error(type="timeout_error"), 504),
        (json_error(status="INTERNAL"), 500),
        (json_error(type="server_error"), 500),
        (json_error(type="InternalServerError"), 500),
        (json_error(type="api_error"), 500),
        (json_error(status="INVALID_ARGUMENT"), 400),
        (json_error(status="FAILED_PRECONDITION"), 400),
        (json_error(type="BadRequestError"), 400),
        (json_error(code="context_length_exceeded", type="invalid_request_error"), 400),
        (json_error(type="exceed_context_size_error"), 400),
        (json_error(code="content_filter"), 400),
        (json_error(code="content_policy_violation", type="invalid_request_error"), 400),
        (json_error(code="invalid_prompt"), 400),
        (json_error(code="model_not_found", type="invalid_request_error"), 404),
        (json_error(type="not_found_error"), 404),
        (json_error(status="NOT_FOUND"), 404),
        (json_error(code="DeploymentNotFound"), 404),
        (json_error(type="request_too_large"), 413),
        (json_error(code="invalid_api_key", type="invalid_request_error"), 401),
        (json_error(status="UNAUTHENTICATED"), 401),
        (json_error(type="authentication_error"), 401),
        (json_error(status="PERMISSION_DENIED"), 403),
        (json_error(code="unsupported_country_region_territory"), 403),
        ({"__type": "AccessDeniedException", "Message": "m"}, 403),
        ({"code": 8, "message": "m", "details": []}, 429),
        ("<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>", 429),
        ("inference error: ResourceExhausted - system saturated", 429),
        (json_error(code=5007), None),
        (json_error(code=200), None),
        (json_error(code=True), None),
        (json_error(code="nobody_knows"), None),
        (json_error(code="9" * 5000), None),
        ({"error": "rate_limit_exceeded"}, 429),
        ({"error": "Too Many Requests"}, 429),
        ({"error": "Unauthorized", "message": "who?"}, 401),
        ({"error": "the server may be overloaded"}, None),
        (json_error(), None),
        ("rate limit", None),
    ],
)
def test_the_status_that_an_error_names(body: Any, status: int | None) -> None:
    assert said(body).status == status


@pytest.mark.parametrize(
    ("word", "final"),
    [
        ("content_filter", True),
        ("content_policy_violation", True),
        ("model_not_found", True),
        ("not_found_error", True),
        ("invalid_prompt", True),
        ("request_too_large", True),
        ("rate_limit_exceeded", False),
        ("invalid_request_error", False),
        ("server_error", False),
    ],
)
def test_some_refusals_are_final_whenever_they_are_said(word: str, final: bool) -> None:
    assert said(json_error(code=word)).is_final is final
    assert said(json_error(type=word)).is_final is final


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (
            json_error(
                details=[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "39s"}]
            ),
            39,
        ),
        ([json_error(details=[{"@type": "x"}, {"retryDelay": "0.25s"}])], 0.25),
        (json_error(details=[{"retryDelay": "0s"}]), None),
        (json_error(details=[{"retryDelay": 3}, "x", None]), None),
        (json_error(details="39s"), None),
        ({"message": "m", "retry_after": 7}, 7),
        (json_error(retry_after_ms=250), 0.25),
        (json_error(retry_after=-1), None),
        (json_error(message="Rate limit reached. Please try again in 20s. Visit us"), 20),
        (json_error(message="Please try again in 6m0s."), 360),
        (json_error(message="Please try again in 17ms."), 0.017),
        (json_error(message="Please try again in 7m12.48s."), 432.48),
        (json_error(message="Please retry after 26 seconds."), 26),
        (json_error(message="Please retry in 39.5s."), 39.5),
        (json_error(message="Please try again in 2 minutes."), 120),
        (json_error(message="Please try again in 1 hour, 5 minutes."), 3900),
        (json_error(message="Please wait 24 seconds before retrying."), 24),  # GitHub Models
        (json_error(message="Please retry your request after 3 seconds."), 3),
        ({"detail": "Request was throttled. Expected available in 30 seconds."}, 30),  # Django
        (json_error(message="Please wait for 1 day 2 hours"), 93_600),
        (json_error(message="Please try again in 20 samples"), None),
        (json_error(message="Please wait a few seconds"), None),
        (json_error(message="Please try again in a few minutes"), None),
        (json_error(message="Please try again later"), None),
    ],
)
def test_the_wait_that_a_refusal_for_load_asks_for(body: Any, seconds: float | None) -> None:
    assert said(body, 429).retry_after == seconds


def test_a_wait_in_words_counts_only_where_waiting_helps() -> None:
    body = json_error(message="You wrote 'try again in 20s'")
    assert said(body, 400).retry_after is None
    assert said(json_error(message="try again in 20s", code=429), 200).retry_after == 20


def test_a_code_without_words_is_still_found() -> None:
    detail = said({"error": {"code": "rate_limit_exceeded"}})
    assert (detail.code, detail.status) == ("rate_limit_exceeded", 429)
