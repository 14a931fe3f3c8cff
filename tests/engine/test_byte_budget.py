"""Room for bytes under way: never too much, in turn, and nobody is passed over."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.byte_budget import ByteBudget

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def budget(limit: int, clock: Clock | None = None) -> ByteBudget:
    return ByteBudget(limit, clock or Clock())


async def started(room: ByteBudget, cost: int) -> asyncio.Task[None]:
    task = asyncio.create_task(room.wait(cost))
    await asyncio.sleep(0)
    return task


def test_one_line_that_is_larger_than_everything_goes_alone() -> None:
    room = budget(1_000)
    cost = room.cost(10**9)
    assert cost == 1_000
    assert room.take(cost)
    assert not room.take(room.cost(1))
    room.give(cost)
    assert room.held == 0


async def test_a_large_line_is_not_passed_over_by_small_ones() -> None:
    room = budget(10)
    assert room.take(6)
    large = await started(room, 8)
    assert not room.take(1), "it would fit, and came later"
    small = await started(room, 1)
    room.give(6)
    await large
    await small
    assert room.held == 9
    assert not room.is_short
    assert room.waited == 2


async def test_who_stops_waiting_lets_those_behind_go() -> None:
    room = budget(10)
    assert room.take(5)
    large, small = await started(room, 9), await started(room, 4)
    large.cancel()
    await small
    assert (room.held, room.is_short) == (9, False)
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_who_is_cancelled_just_as_its_turn_comes_leaves_no_room_taken() -> None:
    room = budget(10)
    assert room.take(10)
    task = await started(room, 10)
    room.give(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert room.held == 0


async def test_it_is_known_for_how_long_there_was_no_room() -> None:
    clock = Clock()
    room = budget(10, clock)
    assert room.take(10)
    clock.now = 5.0
    one, two = await started(room, 4), await started(room, 4)
    clock.now = 7.0
    assert room.short_seconds == 2.0
    room.give(10)
    await asyncio.gather(one, two)
    clock.now = 100.0
    assert room.short_seconds == 2.0


def test_large_answers_count_at_once_and_are_forgotten_little_by_little() -> None:
    room = budget(10**9)
    before = room.cost(1_000)
    room.learn(1_000_000)
    assert room.cost(1_000) > before + 1_000_000
    for _ in range(200):
        room.learn(100)
    assert room.cost(1_000) < before


@given(st.lists(st.integers(0, 30), max_size=40), st.integers())
def test_no_more_is_held_than_there_is_and_everybody_gets_a_turn(
    sizes: list[int], seed: int
) -> None:
    async def play() -> None:
        draws = random.Random(seed)
        room = budget(20)
        order: list[int] = []
        under_way: list[int] = []

        async def one(number: int, size: int) -> None:
            cost = min(20, size)
            if not room.take(cost):
                await room.wait(cost)
            order.append(number)
            under_way.append(cost)

        tasks = [asyncio.create_task(one(number, size)) for number, size in enumerate(sizes)]
        await asyncio.sleep(0)
        while under_way:
            assert room.held == sum(under_way) <= 20
            room.give(under_way.pop(draws.randrange(len(under_way))))
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == list(range(len(sizes)))
        assert (room.held, room.is_short) == (0, False)

    asyncio.run(play())
