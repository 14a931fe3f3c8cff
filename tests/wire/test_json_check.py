"""What counts as a JSON answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.json_check import json_object_problem

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON), st.booleans())
def test_every_json_object_is_accepted(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    assert json_object_problem(body) == ""


@given(st.dictionaries(st.text(), JSON, min_size=1), st.data())
def test_an_object_that_was_cut_short_is_not_one(value: object, data: st.DataObject) -> None:
    body = json.dumps(value).encode()
    cut = data.draw(st.integers(0, len(body) - 1))
    assert json_object_problem(body[:cut]) != ""


@given(st.binary())
def test_any_bytes_get_a_verdict(body: bytes) -> None:
    assert isinstance(json_object_problem(body), str)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[1]", "is JSON but not an object"),
        (b'"x"', "is JSON but not an object"),
        (b"null", "is JSON but not an object"),
        (b'{"a":NaN}', "is not JSON"),
        (b"<html>", "is not JSON"),
        (b'{"a":"\xff"}', "is not UTF-8"),
        (b'{"a":1} trailing', "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
    ],
)
def test_what_is_not_an_object_says_why(body: bytes, problem: str) -> None:
    assert json_object_problem(body).startswith(problem)


def test_an_emoji_cut_in_half_is_still_an_answer() -> None:
    assert json_object_problem(b'{"content":"\\ud83d"}') == ""
