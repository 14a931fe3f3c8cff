"""Input lines taken apart and result lines put together."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.lines import (
    decode_batch_line,
    error_line,
    error_response_line,
    line_id,
    parse_line_id,
    success_line,
    wrap_error_body,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.text("0123456789abcdef", min_size=12, max_size=64),
    st.integers(0, 10**18 - 1),
    st.integers(0, 2**32 - 1),
)
def test_an_id_tells_its_input_its_line_and_what_that_was(
    fingerprint: str, index: int, content: int
) -> None:
    assert parse_line_id(line_id(fingerprint, index, content)) == (fingerprint, index, content)
    # As in results of earlier versions.
    assert parse_line_id(line_id(fingerprint, index)) == (fingerprint, index, None)


@pytest.mark.parametrize(
    "text", ["", "batch_req_", "batch_req_abc_1", "batch_req_67d5e1a2b3c4", "x", "chatcmpl-1"]
)
def test_other_ids_are_not_taken_for_ours(text: str) -> None:
    assert parse_line_id(text) is None


@given(TEXT, TEXT, st.integers(200, 299))
def test_a_success_line_holds_what_it_was_given(custom_id: str, request_id: str, code: int) -> None:
    line = success_line("batch_req_1", custom_id, code, request_id, b'{"n": 1.50}')
    assert line.endswith(b"\n")
    assert b"1.50" in line
    assert json.loads(line) == {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": {"status_code": code, "request_id": request_id, "body": {"n": 1.5}},
        "error": None,
    }


@given(st.text(), st.text())
def test_an_error_line_takes_any_words(code: str, message: str) -> None:
    line = error_line("batch_req_1", "a", code, message)
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert found["response"] is None
    assert found["error"].keys() == {"code", "message"}
    if message.isprintable():
        assert found["error"]["message"] == message


def test_half_a_surrogate_pair_in_a_gateways_words_is_no_obstacle() -> None:
    assert json.loads(error_line("i", "a", "c", "cut \ud83d"))["error"]["message"] == "cut ?"
    wrapped = wrap_error_body(b"", message="cut \ud83d", kind="k", code="c")
    assert json.loads(wrapped)["error"]["message"] == "cut ?"


def test_an_error_response_keeps_the_status_and_body_of_the_gateway() -> None:
    line = error_response_line("i", "a", 422, "r", b'{"detail": [1]}\n')
    found = json.loads(line)
    assert found["response"] == {"status_code": 422, "request_id": "r", "body": {"detail": [1]}}
    assert found["error"] is None


def test_the_body_of_an_input_line_is_cut_out_as_it_is_written() -> None:
    text = b'{"body": {"model" : "m", "x": 1.0e2}, "url": "/u", "method": "POST", "custom_id": "a"}'
    line = decode_batch_line(text)
    assert bytes(line.body) == b'{"model" : "m", "x": 1.0e2}'
    assert (line.custom_id, line.method, line.url) == ("a", "POST", "/u")
    with pytest.raises(msgspec.DecodeError):
        decode_batch_line(b'{"custom_id": "a"}')
