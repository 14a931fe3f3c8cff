"""The status of a gRPC call: its numbers, and its message in a header."""

from __future__ import annotations

import grpc
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.http2.grpc_status import (
    StatusCode,
    decode_status_message,
    encode_status_message,
)


def test_the_numbers_are_those_of_grpc() -> None:
    official = {code.name: code.value[0] for code in grpc.StatusCode}
    assert {code.name: code.value for code in StatusCode} == official


@given(st.text(max_size=300))
def test_a_message_goes_through_a_header_unchanged(message: str) -> None:
    value = encode_status_message(message)
    assert value.isascii()
    assert not value or value.isprintable()
    assert decode_status_message(value) == message


def test_only_what_a_header_cannot_carry_is_encoded() -> None:
    assert encode_status_message('100% "sure"\nor é?') == '100%25 "sure"%0Aor %C3%A9?'


@given(st.text(max_size=40))
def test_whatever_is_said_can_be_read(value: str) -> None:
    assert isinstance(decode_status_message(value), str)


def test_what_is_not_encoded_rightly_stays_readable() -> None:
    assert decode_status_message("50% of it, %zz and %ff") == "50% of it, %zz and \ufffd"
