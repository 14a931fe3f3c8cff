"""What error bodies say, in all the forms that gateways use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.error_body import MESSAGE_LIMIT, parse_error_body


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (
            b'{"error":{"message":"No such model","code":"model_not_found"}}',
            "No such model",
            "model_not_found",
        ),
        (b'{"error":{"message":"too long","code":400,"type":"x"}}', "too long", "400"),
        (b'{"error":{"message":"slow down","code":null}}', "slow down", None),
        (b'{"error":"plain words"}', "plain words", None),
        (b'{"object":"error","message":"old style","code":40303}', "old style", "40303"),
        (b'{"detail":"Not Found"}', "Not Found", None),
        (
            b'{"detail":[{"loc":["body"],"msg":"field required"}]}',
            '[{"loc":["body"],"msg":"field required"}]',
            None,
        ),
        (
            b"inference error: ResourceExhausted - system saturated",
            "inference error: ResourceExhausted - system saturated",
            None,
        ),
        (
            b"<html><head><title>502 Bad Gateway</title></head><body>x</body></html>",
            "502 Bad Gateway",
            None,
        ),
        (b"<h1>Service &amp; more</h1>", "Service & more", None),
        (b"<div>no <b>title</b></div>", "no title", None),
        (b"", "Bad Gateway (no body)", None),
        (b"  \r\n", "Bad Gateway (no body)", None),
        (b"{}", "Bad Gateway", None),
        (b"[1]", "Bad Gateway", None),
        (b'"quoted"', "quoted", None),
        (b'{"error":{"message":"line one\\nline two\\u001b[2J"}}', "line one line two [2J", None),
    ],
)
def test_the_message_and_code_are_found(body: bytes, message: str, code: str | None) -> None:
    detail = parse_error_body(502, body)
    assert (detail.message, detail.code) == (message, code)


def test_a_status_that_nobody_registered_still_has_a_message() -> None:
    assert parse_error_body(599, b"").message == "unexpected status (no body)"


def test_the_type_and_param_are_kept() -> None:
    body = b'{"error":{"message":"m","type":"invalid_request_error","param":"model","code":null}}'
    detail = parse_error_body(404, body)
    assert (detail.type, detail.param) == ("invalid_request_error", "model")


@given(st.binary(max_size=2000) | st.text().map(str.encode))
def test_any_body_gives_one_short_line(body: bytes) -> None:
    message = parse_error_body(500, body).message
    assert 0 < len(message) <= MESSAGE_LIMIT
    assert message.isprintable() or not any(ch in message for ch in "\r\n\x1b")


def test_a_huge_page_stays_short() -> None:
    assert len(parse_error_body(500, b"x" * 10_000_000).message) == MESSAGE_LIMIT
