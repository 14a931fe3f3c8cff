"""Reading an error body costs no more than its length: none holds up the loop."""

from __future__ import annotations

from typing import Any

import pytest

from batch_gateway.wire.error_body import parse_error_body
from tests.linear_cost import assert_linear

UNITS = (
    *("<", "<title>", "<title>a</title>", "<h1><code><message>", "<!--", "<!-->", "<![CDATA["),
    *("<script>", "<script></style>", "</a", "<p>&", "<p>&#9", "<p>&amp"),
    *("[", '{"error":', '{"message":"a"},', '{"detail":{"message":{', '"a"', '{"message" ', "{\n"),
    *('{"message":"\\', '{"message":"\\u', '{"message":1', '"code":1 '),
    *("data: x\n", "data: {\n\n", "data:\r", ":", "event: error\n"),
    *("try again in ", "retry after 1s", " ", "\x01", "\u202e", "é"),
)


@pytest.mark.parametrize("start", ["", "{", '{"error":{"message":"', "data: ", "<p></p>"])
@pytest.mark.parametrize("unit", UNITS)
def test_the_cost_of_an_error_body_grows_with_its_length(unit: str, start: str) -> None:
    def read(size: int) -> None:
        text = start + unit * (size // len(unit))
        parse_error_body(429, text.encode())

    assert_linear(read, 2000)


def test_of_a_huge_body_only_the_beginning_is_read() -> None:
    cost: list[int] = []

    class Counted(bytes):
        def __getitem__(self, key: Any) -> Any:
            cost.append(key.stop)
            return super().__getitem__(key)

    body = Counted(b'{"error":{"message":"too long"},"echo":"' + b"x" * 10_000_000)
    assert parse_error_body(400, body).message == "too long"
    assert cost == [256 * 1024]
