"""The pure parts of sending and fetching: the form, where a range belongs, how long to wait."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser, parse_options_header

from batch_gateway.engine.source import BytesSource
from batch_gateway.errors import BadResponseError, InferenceError, InputError, ServerError
from batch_gateway.remote.file_form import FileForm
from batch_gateway.remote.outage import Outage
from batch_gateway.remote.result_download import placed
from tests.client.manual_clock import ManualClock


@given(st.binary(max_size=2000), st.text(max_size=20), st.integers(1, 700))
def test_the_pieces_of_a_form_are_a_form_around_the_file(
    content: bytes, filename: str, size: int
) -> None:
    told: list[tuple[int, int]] = []
    form = FileForm(BytesSource(content), filename, lambda *one: told.append(one))
    pieces = [form[start : start + size] for start in range(0, len(form), size)]
    body = b"".join(pieces)
    assert len(body) == len(form)
    assert told[-1] == (len(content), len(content))
    assert told == sorted(told)
    values: list[bytes] = []
    parser = MultipartParser(
        parse_options_header(form.content_type)[1][b"boundary"],
        {
            "on_part_begin": lambda: values.append(b""),
            "on_part_data": lambda data, start, end: values.append(values.pop() + data[start:end]),
        },
    )
    parser.write(body)
    parser.finalize()
    assert values == [b"batch", content]


class Changing(BytesSource):
    """A file that is changed while it is sent."""

    def read(self, start: int, end: int) -> bytes:
        if start > 3:
            raise InputError("f changed")
        return super().read(start, end)


def test_a_file_that_changes_while_it_is_sent_keeps_the_length_that_was_told() -> None:
    form = FileForm(Changing(b"0123456789"), "f", lambda *_: None)
    body = b"".join(form[start : start + 2] for start in range(0, len(form), 2))
    assert len(body) == len(form)
    assert str(form.problem) == "f changed"


@pytest.mark.parametrize(
    ("status", "headers", "have", "expected"),
    [
        (200, {"content-length": "9"}, 0, (0, 9)),
        (200, {}, 5, (0, None)),
        (206, {"content-range": "bytes 5-8/9"}, 5, (5, 9)),
        (206, {"content-range": "bytes 5-8/*"}, 5, (5, None)),
        (206, {"content-range": "bytes 2-8/9"}, 5, (2, 9)),
        (416, {"content-range": "bytes */5"}, 5, (5, 5)),
        (416, {"content-range": "bytes */3"}, 5, (0, -1)),
        (416, {}, 5, (0, -1)),
    ],
)
def test_the_bytes_of_an_answer_are_put_where_it_says(
    status: int, headers: dict[str, str], have: int, expected: tuple[int, int | None]
) -> None:
    assert placed(status, headers, have) == expected


@pytest.mark.parametrize("said", ["bytes 6-8/9", "", "lines 5-8/9", "bytes */9"])
def test_a_range_that_would_leave_a_hole_is_refused(said: str) -> None:
    with pytest.raises(BadResponseError):
        placed(206, {"content-range": said}, 5)


@pytest.mark.anyio
async def test_an_outage_is_waited_out_for_as_long_as_patience_lasts() -> None:
    clock, notes = ManualClock(), list[str]()
    outage = Outage(60.0, clock, notes.append)
    begun = clock.monotonic()

    async def ask_for_ever() -> None:
        while True:
            await outage.wait_out(ServerError("gone"))

    with pytest.raises(ServerError):
        await ask_for_ever()
    assert math.isclose(clock.monotonic() - begun, 60.0)
    assert notes == ["gone; asking again until it answers"]


@pytest.mark.anyio
async def test_patience_begins_anew_with_each_outage_and_what_is_final_is_raised_at_once() -> None:
    clock, notes = ManualClock(), list[str]()
    outage = Outage(1.0, clock, notes.append)
    for _ in range(3):
        await outage.wait_out(ServerError("gone", retry_after=0.9))
        outage.answered()
    assert len(notes) == 6
    with pytest.raises(InferenceError):
        await outage.wait_out(InferenceError("no", is_retryable=False))
