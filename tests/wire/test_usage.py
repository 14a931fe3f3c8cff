"""Token counts under the names of each endpoint."""

from __future__ import annotations

import pytest

from batch_gateway import Usage
from batch_gateway.wire.usage import parse_usage


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
        (b"", None),
    ],
)
def test_usage_is_read_or_absent(body: bytes, usage: Usage | None) -> None:
    assert parse_usage(body) == usage


def test_usages_add_up() -> None:
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)
    assert Usage(3, 4).total_tokens == 7
