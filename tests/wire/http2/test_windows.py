"""The window of what is received: more is allowed in time, and never more than there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.http2.windows import ReceiveWindow


@given(
    st.integers(1, 2_000),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 900)), max_size=40),
)
def test_a_sender_that_keeps_to_its_window_is_never_stuck_nor_too_far(
    size: int, turns: list[tuple[int, int]]
) -> None:
    window = ReceiveWindow(size)
    allowed, unread = size, 0
    for sent, read in turns:
        arriving = min(sent, allowed)
        assert window.take(arriving)
        allowed -= arriving
        unread += arriving
        used = min(read, unread)
        unread -= used
        worn = window.worn
        more = window.use(read)
        assert worn or not more
        allowed += more
        assert 0 <= allowed + unread <= size
        assert allowed + unread > size - max(1, size // 2)
    allowed += window.use_all()
    assert allowed > size - max(1, size // 2)


@given(st.integers(0, 500), st.integers(1, 500))
def test_more_than_was_allowed_is_noticed(size: int, excess: int) -> None:
    window = ReceiveWindow(size)
    assert window.take(size)
    assert not window.take(excess)


def test_more_is_allowed_half_a_window_at_a_time() -> None:
    window = ReceiveWindow(100)
    window.take(49)
    assert not window.worn
    window.take(31)
    assert window.worn
    assert [window.use(20), window.use(20), window.use(20), window.use(20)] == [0, 0, 60, 0]
