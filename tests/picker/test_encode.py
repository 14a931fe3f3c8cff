"""The bytes that are said to a picker are those that the generated classes would say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import InvalidRequestError
from batch_gateway.http.base_url import ApiPath
from batch_gateway.picker.encode import (
    QuestionEncoder,
    pieces_of,
    response_body,
    response_head,
    served_by,
)
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingRequest

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: (
        name.lower() not in ("te", "host", "connection", "upgrade", "expect", "trailer")
        and not name.lower().startswith(("x-gateway-dest", "x-llm-d-request-dropped", "content-l"))
    )
)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)
header_lists = st.lists(
    st.tuples(names, values), max_size=12, unique_by=lambda pair: pair[0].lower()
)


def encoder(**changes: object) -> QuestionEncoder:
    settings: dict[str, object] = {
        "authority": "picker:9002",
        "scheme": "http",
        "locate": ApiPath().target,
        "origin": (("Accept", "application/json"), ("Authorization", "Bearer sk-1")),
        "subset": (),
    }
    return QuestionEncoder(**(settings | changes))  # pyright: ignore[reportArgumentType]


def parsed(message: bytes) -> ProcessingRequest:
    found = ProcessingRequest.FromString(message)
    # Nothing is there that the classes do not know, and nothing is said twice.
    assert sorted(found.SerializeToString()) == sorted(message)
    return found


@given(header_lists)
def test_the_question_names_every_header_once_in_lower_case(headers: list[tuple[str, str]]) -> None:
    message, by_name = encoder().headers("/v1/chat/completions", headers, 17)
    found = parsed(message)
    assert not found.request_headers.end_of_stream
    told = {h.key: h.raw_value.decode() for h in found.request_headers.headers.headers}
    assert len(told) == len(found.request_headers.headers.headers)
    asked = {"accept": "application/json", "authorization": "Bearer sk-1"}
    asked |= {name.lower(): value for name, value in headers}
    pseudo = {
        ":method": "POST",
        ":path": "/v1/chat/completions",
        ":authority": "picker:9002",
        ":scheme": "http",
    }
    assert told == {**pseudo, **asked, "content-length": "17"}
    assert by_name == {**pseudo, **asked}
    assert found.protocol_config.request_body_mode == 4
    assert found.protocol_config.response_body_mode == 4


@given(header_lists, header_lists)
def test_what_is_remembered_of_one_request_says_nothing_about_the_next(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    one = encoder()
    one.headers("/a", first, 1)
    assert one.headers("/a", second, 2) == encoder().headers("/a", second, 2)
    # The same names with other values come from what was remembered.
    others = [(name, value[::-1] + "!") for name, value in second]
    assert one.headers("/a", others, 3) == encoder().headers("/a", others, 3)


def test_a_path_prefix_is_part_of_the_path() -> None:
    message, _ = encoder(locate=ApiPath("/pool").target).headers("/v1/models", [], 0)
    told = {h.key: h.raw_value for h in parsed(message).request_headers.headers.headers}
    assert told[":path"] == b"/pool/v1/models"


@pytest.mark.parametrize(
    "header", [("x-a", "one\r\nx-b: two"), ("x\r\na", "one"), ("Content-Length", "3"), ("x", "ä\n")]
)
def test_a_header_that_cannot_be_sent_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        encoder().headers("/v1/chat/completions", [header], 0)


def test_a_value_beyond_ascii_goes_out_as_latin_1() -> None:
    message, _ = encoder().headers("/v1", [("x-name", "Zoë")], 0)
    told = {h.key: h.raw_value for h in parsed(message).request_headers.headers.headers}
    assert told["x-name"] == "Zoë".encode("latin-1")


@given(st.binary(max_size=400), st.lists(st.sampled_from(["10.0.0.1:80", "[::1]:80"]), max_size=2))
def test_a_body_goes_out_whole_with_the_subset_beside_it(body: bytes, subset: list[str]) -> None:
    made = encoder(subset=subset)
    [message] = made.body(pieces_of(body))
    found = parsed(message)
    assert found.request_body.body == body
    assert found.request_body.end_of_stream
    first = parsed(made.headers("/v1", [], 0)[0])
    for one in (first, found):
        metadata = one.metadata_context.filter_metadata
        if not subset:
            assert len(metadata) == 0
            continue
        [told] = metadata["envoy.lb.subset_hint"].fields.values()
        assert [value.string_value for value in told.list_value.values] == subset


def test_a_large_body_is_cut_into_messages_that_every_picker_takes() -> None:
    body = bytes(range(256)) * 20_000  # 5 MB
    messages = [ProcessingRequest.FromString(m) for m in encoder().body(pieces_of(body))]
    assert b"".join(m.request_body.body for m in messages) == body
    assert [m.request_body.end_of_stream for m in messages] == [False] * 4 + [True]
    assert max(m.ByteSize() for m in messages) < 4 * 1024 * 1024 // 3


raw_headers = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Type", b"x-a", b"Date"]), st.binary(min_size=1, max_size=200)
    )
)


@given(st.integers(100, 599), raw_headers)
def test_an_answers_head_is_reported_with_who_served_it(
    status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    found = parsed(response_head(status, headers, served_by("10.0.0.1:8000")))
    told = [(h.key.encode(), h.raw_value) for h in found.response_headers.headers.headers]
    assert told == [(b":status", b"%d" % status), *((n.lower(), v) for n, v in headers)]
    served = found.metadata_context.filter_metadata["envoy.lb"]
    assert dict(served) == {"x-gateway-destination-endpoint-served": "10.0.0.1:8000"}


@given(st.binary(max_size=300), st.booleans())
def test_an_answers_body_is_reported(piece: bytes, last: bool) -> None:
    found = parsed(response_body(piece, last=last))
    assert found.WhichOneof("request") == "response_body"
    assert (found.response_body.body, found.response_body.end_of_stream) == (piece, last)


def test_an_empty_value_stays_a_value() -> None:
    message, _ = encoder().headers("/v1", [("x-empty", "")], 0)
    told = {
        h.key: h.raw_value
        for h in ProcessingRequest.FromString(message).request_headers.headers.headers
    }
    assert told["x-empty"] == b""
