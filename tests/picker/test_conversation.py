"""What a picker's messages mean, in every order that they may come in."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import BadResponseError
from batch_gateway.picker.conversation import Conversation
from batch_gateway.picker.encode import piece_frames, response_body
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingResponse
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.http2.frames import DATA, frame
from batch_gateway.wire.http2.grpc_messages import message_frame, message_prefix

HEADER = "x-gateway-destination-endpoint"
OK = Headers.of({"content-type": "application/json", "content-length": "2"})


def talk(*pieces: bytes, **headers: str) -> Conversation:
    asked = {":path": "/v1/chat/completions", "x-kept": "yes", **headers}
    return Conversation("picker:9002", asked, pieces or (b"body",))


def say(**fields: Any) -> bytes:
    return ProcessingResponse(**fields).SerializeToString()


def chosen(
    endpoints: str = "10.0.0.1:80",
    *,
    where: str = "both",
    set_headers: dict[str, str] | None = None,
    remove: tuple[str, ...] = (),
    **common: Any,
) -> bytes:
    given = dict(set_headers or {}) | ({HEADER: endpoints} if where != "metadata" else {})
    options = [{"header": {"key": k, "raw_value": v.encode()}} for k, v in given.items()]
    mutation = {"set_headers": options, "remove_headers": remove}
    fields: dict[str, Any] = {"response": {"header_mutation": mutation, **common}}
    response = ProcessingResponse(request_headers=fields)  # pyright: ignore[reportArgumentType]
    if where != "header":
        response.dynamic_metadata.update({"envoy.lb": {HEADER: endpoints}})
    return response.SerializeToString()


def body(piece: bytes, *, last: bool, kind: str = "request_body") -> bytes:
    streamed = {"body": piece, "end_of_stream": last}
    return say(**{kind: {"response": {"body_mutation": {"streamed_response": streamed}}}})


UNCHANGED = say(request_body={})


@pytest.mark.parametrize("where", ["both", "header", "metadata"])
def test_the_pod_is_named_in_metadata_or_header(where: str) -> None:
    one = talk()
    one.received(chosen("10.0.0.1:80, [::1]:8000,10.0.0.1:80", where=where))
    assert one.choice is None
    one.received(body(b"body", last=True))
    assert one.choice is not None
    assert list(one.choice.endpoints) == ["10.0.0.1:80", "[::1]:8000"]


def test_metadata_wins_over_the_header() -> None:
    one = talk()
    response = ProcessingResponse.FromString(chosen("10.0.0.1:80", where="header"))
    response.dynamic_metadata.update({"envoy.lb": {HEADER: "10.0.0.2:80"}})
    one.received(response.SerializeToString())
    one.received(UNCHANGED)
    assert one.choice is not None
    assert list(one.choice.endpoints) == ["10.0.0.2:80"]


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6))
def test_the_rewritten_body_is_sent_as_received(pieces: list[bytes]) -> None:
    one = talk(b"asked")
    one.received(chosen())
    for index, piece in enumerate(pieces):
        assert one.choice is None
        one.received(body(piece, last=index == len(pieces) - 1))
    assert one.choice is not None
    assert one.choice.body == b"".join(pieces)


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=6), st.data())
def test_empty_answers_leave_the_body_and_may_come_before_the_headers(
    pieces: list[bytes], data: st.DataObject
) -> None:
    one = talk(*pieces)
    messages = [UNCHANGED] * len(pieces)
    messages.insert(data.draw(st.integers(0, len(pieces))), chosen())
    for message in messages:
        assert one.choice is None
        one.received(message)
    assert one.choice is not None
    assert one.choice.body == b"".join(pieces)


def test_a_piece_may_be_replaced_or_cleared() -> None:
    one = talk(b"a", b"b", b"c")
    one.received(chosen())
    one.received(say(request_body={"response": {"body_mutation": {"body": b"A"}}}))
    one.received(say(request_body={"response": {"body_mutation": {"clear_body": True}}}))
    one.received(say(request_body={"response": {"body_mutation": {"clear_body": False}}}))
    assert one.choice is not None
    assert one.choice.body == b"Ac"


def test_headers_may_bring_the_whole_body_with_them() -> None:
    one = talk(b"a", b"b")
    one.received(chosen(status=1, body_mutation={"body": b"all of it"}))
    assert one.choice is not None
    assert one.choice.body == b"all of it"


def test_headers_are_set_and_removed_as_the_picker_says() -> None:
    one = talk(**{"x-old": "1", "authorization": "Bearer sk-1"})
    new = {"X-Old": "2", ":path": "/v1/moved", "x-prefiller-host-port": "10.0.0.9:80"}
    framing = {"content-length": "999", "Transfer-Encoding": "chunked"}
    one.received(
        chosen(set_headers={**new, **framing}, remove=("Authorization", ":path", "x-none"))
    )
    one.received(UNCHANGED)
    assert one.choice is not None
    assert one.choice.headers == {
        ":path": "/v1/moved",
        "x-kept": "yes",
        "x-old": "2",
        "x-prefiller-host-port": "10.0.0.9:80",
        HEADER: "10.0.0.1:80",
    }


def test_a_host_that_is_set_is_the_authority_and_there_once() -> None:
    one = talk(**{":authority": "picker:9002"})
    one.received(chosen(set_headers={"Host": "model.example", "Expect": "100-continue"}))
    one.received(UNCHANGED)
    assert one.choice is not None
    assert one.choice.headers[":authority"] == "model.example"
    assert not {"host", "expect"} & one.choice.headers.keys()


def test_a_choice_that_is_shown_does_not_show_the_headers() -> None:
    one = talk(authorization="Bearer sk-1")
    one.received(chosen("10.0.0.1:80,10.0.0.2:80"))
    one.received(UNCHANGED)
    assert repr(one.choice) == "Choice(10.0.0.1:80, 10.0.0.2:80, 4 bytes)"


def test_a_body_to_send_that_never_ends_is_an_error() -> None:
    one = talk()
    one.received(chosen())
    piece = body(bytes(4 * 1024 * 1024 - 64), last=False)
    for _ in range(16):
        one.received(piece)
    with pytest.raises(BadResponseError, match=r"picker:9002 .* it sent on and on"):
        one.received(piece)


def test_a_value_in_the_older_field_counts_where_the_other_is_empty() -> None:
    one = talk()
    both = {"key": "x-both", "value": "text", "raw_value": b"raw"}
    options = [{"header": both}, {"header": {"key": "x-text", "value": "text"}}]
    options.append({"header": {"key": HEADER, "value": "10.0.0.1:80"}})
    one.received(say(request_headers={"response": {"header_mutation": {"set_headers": options}}}))
    one.received(UNCHANGED)
    assert one.choice is not None
    assert (one.choice.headers["x-both"], one.choice.headers["x-text"]) == ("raw", "text")


def test_closing_after_the_headers_leaves_the_body_as_it_was() -> None:
    one = talk(b"a", b"b")
    one.received(chosen())
    one.ended()
    assert one.choice is not None
    assert one.choice.body == b"ab"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "without choosing"),
        ([UNCHANGED], "without choosing"),
        ([chosen(), body(b"half", last=False)], "in the middle of the body"),
        ([chosen(""), UNCHANGED], "chose no usable pod: ''"),
        ([say(request_headers={}), UNCHANGED], "chose no pod"),
        ([chosen("10.0.0.1, pod:port:80"), UNCHANGED], "no usable pod: '10.0.0.1, pod:port:80'"),
        ([say(response_headers={})], "had not been asked"),
        ([b"\xff\xff\xff"], "not an ext_proc message"),
        ([chosen("10.0.0.1:80"), body(b"a", last=False), UNCHANGED], "two ways"),
    ],
)
def test_a_picker_that_does_not_choose_is_named_with_what_it_did(
    messages: list[bytes], words: str
) -> None:
    one = talk()

    def hear() -> None:
        for message in messages:
            one.received(message)
        one.ended()

    with pytest.raises(BadResponseError, match=words) as caught:
        hear()
    assert "the endpoint picker picker:9002" in caught.value.message
    assert caught.value.is_retryable


def immediate(status: int, reason: str, content: bytes = b"") -> bytes:
    header = {"key": "x-llm-d-request-dropped-reason", "raw_value": reason.encode()}
    return say(
        immediate_response={
            "status": {"code": status},
            "headers": {"set_headers": [{"header": header}]},
            "body": content,
        }
    )


@given(st.integers(0, 3))
def test_a_refusal_counts_whenever_it_comes(after: int) -> None:
    one = talk()
    steps = [chosen(), UNCHANGED, None]
    for step in steps[:after]:
        if step is None:
            one.reporting()
        else:
            one.received(step)
    one.received(immediate(429, "evicted", b"room was needed"))
    one.ended()
    assert one.refusal is not None
    assert one.refusal.status_code == 429
    assert one.refusal.headers["x-llm-d-request-dropped-reason"] == "evicted"
    assert one.refusal.body == b"room was needed"


def test_an_eviction_behind_a_complete_answer_does_not_undo_it() -> None:
    one = talk()
    one.received(chosen())
    one.received(UNCHANGED)
    one.reporting()
    one.echo.report(b"{}", last=True)
    one.received(immediate(429, "evicted-priority"))
    assert one.refusal is None
    assert one.over
    assert one.echo.give_up()
    assert one.echo.take_all() == b"{}"


def test_any_other_refusal_of_a_complete_answer_replaces_it() -> None:
    one = talk()
    one.received(chosen())
    one.received(UNCHANGED)
    one.reporting()
    one.echo.report(b"{}", last=True)
    one.received(immediate(451, ""))
    assert one.refusal is not None
    assert one.refusal.status_code == 451


def test_the_answers_headers_are_changed_as_the_picker_says() -> None:
    one = talk()
    one.received(chosen())
    one.received(UNCHANGED)
    one.reporting()
    changes = [(":status", "203"), ("Content-Type", "text/plain"), ("x-session-token", "s1")]
    options = [{"header": {"key": k, "raw_value": v.encode()}} for k, v in changes]
    mutation = {"set_headers": options, "remove_headers": ["server"]}
    one.received(say(response_headers={"response": {"header_mutation": mutation}}))
    assert one.head_echoed
    status, headers = one.head(200, Headers.of([("Server", "pod"), *OK.items()]))
    assert status == 203
    assert dict(headers) == {
        "content-length": "2",
        "content-type": "text/plain",
        "x-session-token": "s1",
    }


kinds = st.sampled_from(
    [
        chosen(),
        chosen("nonsense"),
        UNCHANGED,
        body(b"x", last=False),
        body(b"y", last=True),
        body(b"z", last=True, kind="response_body"),
        say(response_headers={}),
        say(response_body={}),
        say(request_trailers={}),
        say(),
        immediate(503, "rejected-no-endpoints"),
    ]
)


@given(st.lists(st.one_of(kinds, st.binary(max_size=12), st.sampled_from(["report", "end"]))))
def test_no_order_of_messages_brings_anything_but_a_choice_a_refusal_or_a_named_problem(
    events: list[bytes | str],
) -> None:
    one = talk(b"one", b"two")
    for event in events:
        with contextlib.suppress(BadResponseError):
            if isinstance(event, bytes):
                one.received(event)
            elif event == "end":
                one.ended()
            elif one.choice is not None:
                one.reporting()
    if one.choice is not None:
        assert one.choice.endpoints
        assert one.choice.headers[":path"] == "/v1/chat/completions"
    if one.refusal is not None:
        assert one.over


def stream_of(pieces: list[bytes]) -> Conversation:
    """A conversation whose answer's pieces are all reported and none handed back."""
    found = talk(b"{}")
    found.received(chosen())
    found.received(body(b"{}", last=True))
    found.reporting()
    for piece in pieces:
        found.echo.report(piece, last=False)
    found.echo.report(b"", last=True)
    return found


@given(
    st.lists(st.binary(min_size=1, max_size=20_000), min_size=1, max_size=4),
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=4),
    st.booleans(),
)
def test_a_piece_handed_back_as_it_was_is_read_like_any_other_message(
    pieces: list[bytes], others: list[tuple[bytes, bool]], with_metadata: bool
) -> None:
    quick, general = stream_of(pieces), stream_of(pieces).echo
    answers = [(piece, False) for piece in pieces] + others
    for piece, last in answers:
        message = body(piece, last=last, kind="response_body")
        if with_metadata:
            # It says nothing about the body, but such a message is no plain one.
            message += say(dynamic_metadata={"fields": {}})
        data = b"before" + message_prefix(len(message)) + message
        start, end = len(b"before"), len(data)
        # What is behind the end is not of this frame.
        stops = quick.echo.came_back(data + b"behind", start, end)
        assert stops in (start, end)
        if stops == start:
            quick.received(message)
        general.streamed(piece, last=last)
        assert (quick.echo.ended, quick.echo.rewritten) == (general.ended, general.rewritten)
        assert (quick.echo.awaited, quick.echo.buffered) == (general.awaited, general.buffered)
    assert quick.echo.take_all() == general.take_all()
    assert quick.echo.answered


EMPTY = body(b"", last=True, kind="response_body")


@pytest.mark.parametrize("end", [EMPTY, bytes.fromhex("220a0a081a061a040a001001")])
def test_the_end_of_a_body_is_known_whether_or_not_its_empty_piece_is_written(end: bytes) -> None:
    assert ProcessingResponse.FromString(end) == ProcessingResponse.FromString(EMPTY)
    echo, handed = stream_of([b"piece"]).echo, list[bytes]()
    echo.hand = handed.append
    piece = body(b"piece", last=False, kind="response_body")
    data = b"".join(message_prefix(len(message)) + message for message in (piece, end))
    # A frame that ends a byte too early, and one with the rest.
    stop = echo.came_back(data, 0, len(data) - 1)
    assert (handed, echo.ended) == ([b"piece"], False)
    assert echo.came_back(data + b"behind", stop, len(data)) == len(data)
    assert (handed, echo.ended, echo.waits) == ([b"piece", b""], True, False)


@given(st.integers(1, 70_000))
def test_a_piece_of_any_size_is_told_and_is_known_when_it_comes_back(size: int) -> None:
    piece = b"x" * size
    message = body(piece, last=False, kind="response_body")
    frames = piece_frames(size)
    assert message_prefix(len(message)) + message == frames.handed_back + piece
    before, behind, _ = frames.told
    told = message_frame(7, response_body(piece, last=False), end=False)
    assert before + (7).to_bytes(4) + behind + piece == told
    assert frames.told.size == len(told) - len(frame(DATA, 0, 7, b""))
