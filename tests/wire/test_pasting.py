"""Bodies that are pasted into lines as bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.lines import error_line, paste, success_line, wrap_error_body

VALUES = st.dictionaries(
    st.text(), st.recursive(st.integers() | st.text() | st.none(), st.lists, max_leaves=5)
)


@given(VALUES, st.sampled_from([None, 0, 2, "\t"]), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_a_body_keeps_its_value_and_becomes_one_line(
    value: object, indent: int | str | None, ascii_only: bool, newline: str
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    body = text.replace("\n", newline).encode(errors="surrogatepass")
    line = success_line("batch_req_x", "a", 200, "r", body)
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    if text.isprintable():
        assert json.loads(line)["response"]["body"] == value


def test_half_a_surrogate_pair_in_a_pretty_printed_body_is_no_obstacle() -> None:
    assert paste(b'{\n"a": "\\ud83d"}') == b'{ "a": "\\ud83d"}'


@given(st.text(), st.text(st.characters(exclude_categories=["Cs"])), VALUES)
def test_a_line_is_one_line_for_every_reader_and_says_the_same(
    custom_id: str, words: str, value: object
) -> None:
    body = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    for line in (
        success_line("batch_req_x", custom_id.encode(errors="replace").decode(), 200, words, body),
        error_line("batch_req_x", "a", words, words),
    ):
        assert len(line.decode().splitlines()) == 1
        json.loads(line)
    raw = '{"a": "\u2028 \u2029 \x85 \u2027 \u00e9"}'
    line = success_line("batch_req_x", "a", 200, "r", raw.encode()).decode()
    assert '{"a": "\\u2028 \\u2029 \\u0085 \u2027 \u00e9"}' in line


@pytest.mark.parametrize(
    "body", [b"", b"busy", b"<html>", b'{"error": "cut', b"[1]", b'{"a":\xff}']
)
def test_an_error_body_that_is_no_object_is_wrapped(body: bytes) -> None:
    wrapped = json.loads(wrap_error_body(body, message="m", kind="t", code="c"))
    assert wrapped == {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}


def test_an_error_body_that_is_an_object_stays_as_it_is() -> None:
    body = b'{"error": {"message": "no", "code": 7.10}}'
    assert wrap_error_body(body, message="m", kind="t", code="c") == body
