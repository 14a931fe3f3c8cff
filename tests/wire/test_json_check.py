"""What counts as JSON in UTF-8."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.json_check import NotJSONError, decode_text, read_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def problem_of(body: bytes) -> str:
    try:
        read_json(body)
    except NotJSONError as error:
        return str(error)
    return ""


@given(JSON, st.booleans())
def test_all_json_is_read(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    assert read_json(body) == json.loads(body)


@given(st.dictionaries(st.text(), JSON, min_size=1), st.data())
def test_an_object_that_was_cut_short_may_come_whole_the_next_time(
    value: object, data: st.DataObject
) -> None:
    body = json.dumps(value).encode()
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(NotJSONError) as caught:
        read_json(body[:cut])
    assert not caught.value.is_final


@given(st.binary())
def test_any_bytes_get_a_verdict(body: bytes) -> None:
    assert isinstance(problem_of(body), str)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "is not JSON"),
        (b'{"a":"\xff"}', "is not UTF-8"),
        (b'{"a":1} trailing', "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b'{"a":NaN', "is not JSON"),
    ],
)
def test_what_is_no_json_says_why(body: bytes, problem: str) -> None:
    assert problem_of(body).startswith(problem)


def test_an_emoji_cut_in_half_is_still_json() -> None:
    assert read_json(b'{"content":"\\ud83d"}') == {"content": "\ud83d"}


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000])
def test_a_number_that_nobody_can_hold_is_still_json(number: bytes) -> None:
    assert isinstance(read_json(b'{"a":%b}' % number)["a"], float)


@pytest.mark.parametrize(
    "word", ["NaN", "Infinity", "-Infinity", "nan", "-nan", "inf", "None", "undefined"]
)
def test_a_word_that_is_no_json_is_named_and_will_come_again(word: str) -> None:
    with pytest.raises(NotJSONError, match=f"it holds {word}, which JSON") as caught:
        read_json(f'{{"a":"NaN","b":[1,{word}],"c":NaN}}'.encode())
    assert caught.value.is_final


@pytest.mark.parametrize(
    ("codec", "named"),
    [
        *(("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")),
        *(("utf-32", "UTF-32"), ("utf-32-le", "UTF-32"), ("utf-32-be", "UTF-32")),
    ],
)
def test_another_encoding_is_named(codec: str, named: str) -> None:
    body = '{"a":"é"}'.encode(codec)
    with pytest.raises(NotJSONError, match=f"is {named}") as caught:
        read_json(body)
    assert caught.value.is_final
    assert decode_text(body) == '{"a":"é"}'
