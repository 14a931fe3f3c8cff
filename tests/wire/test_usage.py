"""Token counts under the names of each endpoint."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import Usage
from batch_gateway.wire.usage import parse_usage

NUMBERS = st.integers() | st.floats() | st.sampled_from([None, True, "5", "x", "1e400", -1, 7.0])
NAMES = st.sampled_from(
    [
        *("usage", "choices", "x_groq", "prompt_tokens", "input_tokens", "output_tokens"),
        *("prompt_tokens_details", "cached_tokens", "completion_tokens"),
    ]
)


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.dictionaries(NAMES, inner) | st.lists(inner, max_size=3)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}', Usage(3, 4)),
        (b'{"usage":{"prompt_tokens":5,"total_tokens":5}}', Usage(5, 0)),
        (
            b'{"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},'
            b'"output_tokens":8,"output_tokens_details":{"reasoning_tokens":2}}}',
            Usage(9, 8, 4, 2),
        ),
        (b'{"usage":{"prompt_tokens":1,"prompt_tokens_details":null}}', Usage(1)),
        (b'{"usage":null}', None),
        (b"{}", None),
        (b'{"usage":"many"}', None),
        (b'{"usage":{"prompt_tokens":-7,"completion_tokens":4}}', None),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":1e30}}', None),
        (b'{"usage":{"prompt_tokens":%d}}' % 10**30, None),
        (b"not json", None),
        (b'{"usage":{"prompt_tokens":3.0,"completion_tokens":"4"}}', Usage(3, 4)),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":null,"total_tokens":"x"}}', Usage(3)),
        (b'{"usage":{"prompt_tokens":true,"completion_tokens":[4]}}', Usage()),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4.5}}', Usage(3)),
        (b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":[]}}', Usage(3)),
        (
            b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2},'
            b'"completion_tokens":4,"completion_tokens_details":{"reasoning_tokens":-1}}}',
            Usage(3, 4, 2),
        ),
        (b'{"usage":null,"x_groq":{"usage":{"prompt_tokens":3}}}', Usage(3)),
        (b'{"choices":[{"usage":null},{"usage":{"prompt_tokens":3}}]}', Usage(3)),
        (b'{"usage":[],"choices":7,"x_groq":"usage"}', None),
        (b'{"text":"\\ud83d","usage":{"prompt_tokens":3}}', Usage(3)),
        (b'{"text":"usage","cost":1e999,"usage":{"prompt_tokens":3.0}}', Usage(3)),
        (b'{"usage":{"prompt_tokens":1e999,"completion_tokens":4}}', Usage(0, 4)),
        (b"", None),
    ],
)
def test_usage_is_read_or_absent(body: bytes, usage: Usage | None) -> None:
    assert parse_usage(body) == usage


@given(st.binary() | st.recursive(NUMBERS, nested, max_leaves=15).map(encoded))
def test_any_body_has_counts_that_make_sense_or_none(body: bytes) -> None:
    usage = parse_usage(body)
    counts = () if usage is None else (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    assert all(isinstance(count, int) and 0 <= count <= 2**32 for count in counts)


def test_usages_add_up() -> None:
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)
    assert Usage(3, 4).total_tokens == 7
