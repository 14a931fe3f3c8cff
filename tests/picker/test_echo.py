"""What is handed on of an answer that goes through a picker, whatever the picker does with it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.picker.echo import Echo

bodies = st.lists(st.binary(max_size=20), max_size=8)


def report(echo: Echo, pieces: list[bytes]) -> bytes:
    """All of an answer, the end of which is an empty message, as of a stream."""
    for piece in pieces:
        echo.report(piece, last=False)
    echo.report(b"", last=True)
    return b"".join(pieces)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in pairwise(edges)] or [b""]


@given(bodies, st.lists(st.integers(0, 1000)))
def test_an_echo_may_be_cut_otherwise(pieces: list[bytes], at: list[int]) -> None:
    echo = Echo()
    whole = report(echo, pieces)
    handed = b""
    echoed = cut(whole, at)
    for index, piece in enumerate(echoed):
        assert not echo.ended
        echo.streamed(piece, last=index == len(echoed) - 1)
        handed += echo.take_all()
    assert handed == whole
    assert echo.ended
    assert not echo.rewritten
    assert not echo.waits
    assert echo.awaited == 0


@given(bodies, st.lists(st.integers(0, 1000)), st.integers(0, 20))
def test_the_pods_own_bytes_follow_where_the_picker_stops(
    pieces: list[bytes], at: list[int], heard: int
) -> None:
    echo = Echo()
    whole = report(echo, pieces)
    for piece in cut(whole, at)[:heard]:
        echo.streamed(piece, last=False)
    assert echo.give_up()
    assert echo.take_all() == whole
    assert echo.ended


@given(bodies, bodies, st.integers(0, 8))
def test_after_the_picker_is_given_up_pieces_pass_at_once(
    before: list[bytes], after: list[bytes], answered: int
) -> None:
    echo = Echo()
    for piece in before:
        echo.report(piece, last=False)
    for _ in before[:answered]:
        echo.unchanged()
    assert echo.give_up()
    for piece in after:
        echo.report(piece, last=False)
        echo.streamed(b"too late", last=False)
    echo.report(b"the end", last=True)
    assert echo.take_all() == b"".join([*before, *after, b"the end"])
    assert echo.ended


@given(bodies, st.data())
def test_empty_and_whole_answers_stand_for_one_message_each(
    pieces: list[bytes], data: st.DataObject
) -> None:
    echo = Echo()
    report(echo, pieces)
    expected = b""
    for piece in [*pieces, b""]:
        assert not echo.ended
        if data.draw(st.booleans()):
            echo.unchanged()
            expected += piece
        else:
            echo.replaced(b"new")
            expected += b"new"
    assert echo.ended
    assert echo.take_all() == expected


def test_a_rewritten_answer_is_not_finished_with_the_pods_bytes() -> None:
    echo = Echo()
    echo.report(b'{"model": "tuned"', last=False)
    echo.streamed(b'{"model": "asked"', last=False)
    echo.report(b"}", last=True)
    assert echo.rewritten
    assert not echo.give_up()
    echo.streamed(b"}", last=True)
    assert echo.give_up()
    assert echo.take_all() == b'{"model": "asked"}'


@given(st.lists(st.tuples(st.sampled_from("rsucgt"), st.binary(max_size=6), st.booleans())))
def test_no_order_of_events_counts_wrongly(events: list[tuple[str, bytes, bool]]) -> None:
    echo, taken, over = Echo(), 0, False
    for kind, piece, last in events:
        if kind == "r" and not over:
            echo.report(piece, last=last)
            over = last
        elif kind == "s":
            echo.streamed(piece, last=last)
        elif kind == "u":
            echo.unchanged()
        elif kind == "c":
            echo.replaced(piece)
        elif kind == "g":
            echo.give_up()
        else:
            taken += len(echo.take())
        assert echo.buffered >= 0
        assert echo.awaited >= 0
        assert not (echo.rewritten and echo.awaited)
        assert not (echo.ended and echo.waits)
    left = echo.buffered
    assert len(echo.take_all()) == left


class Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        taken = super().__getitem__(key)
        if not isinstance(taken, bytes):
            return taken
        if len(taken) < len(self):
            Counted.copied += len(taken)
        return Counted(taken)


@pytest.mark.parametrize(("reported_by", "echoed_by"), [(2**16, 1), (1, 2**16), (700, 999)])
def test_every_byte_is_copied_once_however_small_the_pieces(
    reported_by: int, echoed_by: int
) -> None:
    whole = bytes(range(256)) * 256
    echo = Echo()
    for start in range(0, len(whole), reported_by):
        echo.report(Counted(whole[start : start + reported_by]), last=False)
    Counted.copied = 0
    for start in range(0, len(whole), echoed_by):
        echo.streamed(Counted(whole[start : start + echoed_by]), last=False)
    assert echo.awaited == 0
    assert not echo.rewritten
    assert Counted.copied <= 2 * len(whole)
    assert echo.take_all() == whole
