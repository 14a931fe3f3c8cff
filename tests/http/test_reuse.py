"""What is learned about a server's connections, on made-up times."""

from __future__ import annotations

import pytest

from batch_gateway.http.reuse import Reuse, promised

NEVER = float("inf")


def lost(reuse: Reuse, *served: int, now: float = 0.0) -> float:
    """Connections made and lost one after another, a second apart."""
    for answers in served:
        reuse.lost(answers, made=now + 0.5, now=now + 1)
        now += 1
    return now


def test_three_connections_lost_after_as_many_answers_say_how_many_there_are() -> None:
    reuse = Reuse()
    lost(reuse, 2, 2)
    assert reuse.most == NEVER
    lost(reuse, 2, now=2.0)
    assert reuse.most == 2
    assert reuse.keeps(1, now=4.0)
    assert not reuse.keeps(2, now=4.0)


def test_connections_lost_at_different_times_say_nothing() -> None:
    reuse = Reuse()
    lost(reuse, 2, 1, 2, 3, 2, 2, 1, 1, 4)
    assert reuse.most == NEVER


def test_a_connection_that_brought_more_answers_speaks_against_it() -> None:
    reuse = Reuse()
    now = lost(reuse, 1, 1)
    reuse.answered(2)
    lost(reuse, 1, 1, now=now)
    assert reuse.most == NEVER


def test_connections_made_before_one_was_lost_count_with_it() -> None:
    reuse = Reuse()
    for _ in range(100):
        reuse.lost(1, made=0.0, now=1.0)
    assert reuse.most == NEVER


def test_it_is_tried_again_after_a_minute() -> None:
    reuse = Reuse()
    now = lost(reuse, 1, 1, 1)
    assert not reuse.keeps(1, now + 59)
    assert reuse.keeps(1, now + 61)
    assert reuse.most == NEVER


@pytest.mark.parametrize(
    ("header", "idle", "most"),
    [
        ("timeout=5, max=100", 4.0, 100),
        ("timeout=5", 4.0, NEVER),
        ("max=2,timeout=1", 0.5, 2),
        ('Timeout = "75"; MAX = 1', 74.0, 1),
        ("timeout=0, max=0", 0.0, 0),
        *[(odd, NEVER, NEVER) for odd in ("", "300", "timeout=-1, max=x", "timeout=", "max=\xb2")],
        ("timeout=" + "9" * 5000, NEVER, NEVER),
    ],
)
def test_what_a_server_says_of_its_connections(header: str, idle: float, most: float) -> None:
    assert promised(header) == (idle, most)


def test_what_a_server_says_is_not_forgotten_and_may_be_less() -> None:
    reuse = Reuse()
    reuse.promise(10)
    assert reuse.keeps(9, now=1000.0)
    assert not reuse.keeps(10, now=1000.0)
    lost(reuse, 3, 3, 3, now=1000.0)
    assert not reuse.keeps(3, now=1010.0)
    assert reuse.keeps(3, now=2000.0)
    assert not reuse.keeps(10, now=2000.0)
    reuse.promise(NEVER)
    assert reuse.keeps(10**6, now=2000.0)
