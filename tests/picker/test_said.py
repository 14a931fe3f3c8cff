"""A message that is a piece of a body is read without protobuf, and means what it means to that."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from batch_gateway.picker.said import read_message
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingResponse

KINDS = st.sampled_from(["request_body", "response_body"])


def message_of(kind: str, piece: bytes, *, last: bool) -> bytes:
    streamed = {"body": piece, "end_of_stream": last}
    body = {"response": {"body_mutation": {"streamed_response": streamed}}}
    return ProcessingResponse(**{kind: body}).SerializeToString()  # pyright: ignore[reportArgumentType]


@given(KINDS, st.binary(max_size=40), st.sampled_from([1, 7, 500, 3000]), st.booleans())
@example("request_body", b"ends like the last\x10\x01", 1, False)
@example("request_body", b"", 1, True)
def test_a_piece_of_a_body_is_what_was_written(
    kind: str, piece: bytes, times: int, last: bool
) -> None:
    said = read_message(message_of(kind, piece * times, last=last))
    assert (said.kind, said.how) == (kind, "streamed_response")
    assert (said.body, said.is_so) == (piece * times, last)


@given(KINDS, st.binary(min_size=1, max_size=300), st.booleans(), st.data())
def test_what_only_looks_like_one_is_read_by_protobuf(
    kind: str, piece: bytes, last: bool, data: st.DataObject
) -> None:
    message = bytearray(message_of(kind, piece, last=last))
    place = data.draw(st.integers(0, min(20, len(message) - 1)))
    message[place] ^= 1 << data.draw(st.integers(0, 7))
    changed = bytes(message) + data.draw(st.sampled_from([b"", b"\x10\x01", b"\x42\x00"]))
    try:
        response = ProcessingResponse.FromString(changed)
    except DecodeError:
        with pytest.raises(DecodeError):
            read_message(changed)
        return
    said = read_message(changed)
    found = response.WhichOneof("response")
    assert said.kind == found
    if found in ("request_body", "response_body"):
        mutation = getattr(response, found).response.body_mutation
        assert said.how == mutation.WhichOneof("mutation")
        if said.how == "streamed_response":
            streamed = mutation.streamed_response
            assert (said.body, said.is_so) == (streamed.body, streamed.end_of_stream)
