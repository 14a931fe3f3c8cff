"""The pool under every schedule of events: slots return, limits hold, nothing is shared."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batch_gateway.errors import InferenceError
from batch_gateway.http.pool import DialSlot, Pool

NEVER = float("inf")


class FakeConnection:
    """A connection that a test can break, with a notice of it or without."""

    def __init__(self) -> None:
        self.kept = False
        self.reusable = True
        self.broken_unseen = False
        self.closed = False
        self.deadline = NEVER
        self.expired = False

    def is_alive(self) -> bool:
        return self.reusable and not self.broken_unseen

    def close(self) -> None:
        self.reusable, self.closed = False, True

    def abort(self) -> None:
        self.close()

    def expire(self) -> None:
        self.expired = True
        self.abort()


class FakeWaiter:
    """A request in the queue."""

    def __init__(self, deadline: float = NEVER) -> None:
        self.deadline = deadline
        self.turn: list[FakeConnection | DialSlot] = []
        self.over = False

    def done(self) -> bool:
        return self.over or bool(self.turn)

    def grant(self, turn: FakeConnection | DialSlot) -> None:
        assert not self.done()
        self.turn.append(turn)

    def expire(self) -> None:
        self.over = True

    def fail(self, error: InferenceError) -> None:
        self.over = True


class PoolMachine(RuleBasedStateMachine):
    """Requests that take, dial, wait, finish, break and vanish in any order."""

    @initialize(
        most=st.one_of(st.none(), st.integers(1, 3)),
        idle=st.integers(0, 3),
        keep=st.integers(0, 5),
        pace=st.integers(1, 3),
    )
    def start(self, most: int | None, idle: int, keep: int, pace: int) -> None:
        self.most = NEVER if most is None else most
        self.pace = pace
        self.max_idle = idle
        self.idle_timeout = keep
        self.pool: Pool[FakeConnection] = Pool(
            max_idle=idle, idle_timeout=keep, max_connections=most, max_dials=pace
        )
        self.now = 0.0
        self.made: list[FakeConnection] = []
        self.in_use: list[FakeConnection] = []
        self.dials: list[DialSlot] = []
        self.queue: list[FakeWaiter] = []

    # --- a request ---

    @rule()
    def request(self) -> None:
        connection = self.pool.take()
        if connection is not None:
            self.uses(connection)
        elif slot := self.pool.reserve():
            self.dials.append(slot)
        else:
            waiter = FakeWaiter()
            self.pool.enqueue(waiter)
            self.queue.append(waiter)

    def uses(self, connection: FakeConnection) -> None:
        assert connection not in self.in_use
        assert connection.is_alive()
        self.in_use.append(connection)

    @precondition(lambda self: self.dials)
    @rule(data=st.data())
    def dial_takes_long(self, data: st.DataObject) -> None:
        self.pool.linger(data.draw(st.sampled_from(self.dials)))

    @precondition(lambda self: self.dials)
    @rule(data=st.data(), succeeds=st.booleans())
    def dial_ends(self, data: st.DataObject, succeeds: bool) -> None:
        slot = self.dials.pop(data.draw(st.integers(0, len(self.dials) - 1)))
        if not succeeds:
            self.pool.dial_failed(slot)
            return
        connection = FakeConnection()
        self.made.append(connection)
        self.pool.dialled(slot, connection)
        self.uses(connection)

    @precondition(lambda self: self.in_use)
    @rule(data=st.data(), reusable=st.booleans())
    def finish(self, data: st.DataObject, reusable: bool) -> None:
        connection = self.in_use.pop(data.draw(st.integers(0, len(self.in_use) - 1)))
        connection.reusable = reusable and connection.reusable
        self.pool.release(connection, self.now)

    @precondition(lambda self: any(w.turn for w in self.queue))
    @rule(cancelled=st.booleans())
    def turn_comes(self, cancelled: bool) -> None:
        waiter = next(w for w in self.queue if w.turn)
        self.queue.remove(waiter)
        (granted,) = waiter.turn
        if cancelled:
            self.pool.withdraw(waiter)
            self.give_back(granted)
        elif isinstance(granted, DialSlot):
            self.dials.append(granted)
        elif granted.is_alive():
            self.uses(granted)
        else:
            self.dials.append(self.pool.swap_for_slot(granted))

    def give_back(self, granted: FakeConnection | DialSlot) -> None:
        if isinstance(granted, DialSlot):
            self.pool.dial_failed(granted)
        else:
            self.pool.release(granted, self.now)

    @precondition(lambda self: any(not w.turn for w in self.queue))
    @rule(noticed=st.booleans(), data=st.data())
    def cancel_in_queue(self, noticed: bool, data: st.DataObject) -> None:
        waiting = [w for w in self.queue if not w.turn]
        waiter = data.draw(st.sampled_from(waiting))
        waiter.over = True
        self.queue.remove(waiter)
        if noticed:  # otherwise its task has not run yet, and the pool must see for itself
            self.pool.withdraw(waiter)

    # --- the world ---

    @precondition(lambda self: self.made)
    @rule(data=st.data(), seen=st.booleans())
    def peer_closes(self, data: st.DataObject, seen: bool) -> None:
        connection = data.draw(st.sampled_from(self.made))
        if not seen:
            connection.broken_unseen = True
            return
        connection.reusable = False
        self.pool.lost(connection)

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        again = self.pool.evict(self.now)
        assert again > self.now
        if not self.pool.statistics().idle:
            assert again == NEVER

    # --- what always holds ---

    @invariant()
    def never_more_than_the_limit(self) -> None:
        statistics = self.pool.statistics()
        assert statistics.open == statistics.idle + statistics.in_use
        assert statistics.open + statistics.connecting <= self.most

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        granted = [w.turn[0] for w in self.queue if w.turn]
        statistics = self.pool.statistics()
        slots = [turn for turn in granted if isinstance(turn, DialSlot)]
        assert statistics.in_use == len(self.in_use) + len(granted) - len(slots)
        assert statistics.connecting == len(self.dials) + len(slots)

    @invariant()
    def nobody_waits_while_something_is_free(self) -> None:
        if any(not w.turn for w in self.queue):
            statistics = self.pool.statistics()
            assert statistics.idle == 0
            slots = [*self.dials, *(w.turn[0] for w in self.queue if w.turn)]
            paced = sum(isinstance(slot, DialSlot) and slot.paced for slot in slots)
            assert paced >= self.pace or statistics.open + statistics.connecting == self.most

    @invariant()
    def those_who_wait_have_their_turn_in_order(self) -> None:
        turns = [bool(w.turn) for w in self.queue]
        assert turns == sorted(turns, reverse=True)

    @invariant()
    def what_is_no_longer_in_the_pool_is_closed(self) -> None:
        held = self.pool.connections()
        assert all(c.closed or not c.reusable for c in self.made if c not in held)

    @invariant()
    def what_is_idle_may_be_used_as_far_as_anybody_knows(self) -> None:
        away = [*self.in_use, *(w.turn[0] for w in self.queue if w.turn)]
        assert all(c.reusable for c in self.pool.connections() if c not in away)

    def teardown(self) -> None:
        """When everybody has finished, nothing but idle connections is left."""
        if not hasattr(self, "pool"):
            return
        while self.dials or self.in_use or self.queue:
            if self.dials:
                self.pool.dial_failed(self.dials.pop())
            elif self.in_use:
                self.pool.release(self.in_use.pop(), self.now)
            else:
                self.turn_comes(cancelled=True)
        statistics = self.pool.statistics()
        assert (statistics.in_use, statistics.connecting, statistics.waiting) == (0, 0, 0)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def add(pool: Pool[FakeConnection], connection: FakeConnection) -> None:
    """A connection in use."""
    slot = pool.reserve()
    assert slot
    pool.dialled(slot, connection)


def pool_with_idle(count: int, *, max_idle: int = 100) -> tuple[Pool[FakeConnection], list]:
    """Connections put back at seconds 0, 1, 2, …"""
    pool: Pool[FakeConnection] = Pool(max_idle=max_idle, idle_timeout=90)
    connections = [FakeConnection() for _ in range(count)]
    for connection in connections:
        add(pool, connection)
    for second, connection in enumerate(connections):
        pool.release(connection, float(second))
    return pool, connections


def test_the_newest_idle_connection_is_used_first() -> None:
    pool, connections = pool_with_idle(3)
    assert [pool.take() for _ in range(4)] == [*reversed(connections), None]


def test_a_dead_idle_connection_is_dropped_for_the_next() -> None:
    pool, connections = pool_with_idle(3)
    connections[2].broken_unseen = True
    assert pool.take() is connections[1]
    assert connections[2].closed
    assert pool.statistics().open == 2


def test_idle_connections_are_closed_when_their_time_is_up() -> None:
    pool, connections = pool_with_idle(3)
    assert pool.evict(89.9) == 90
    assert pool.evict(91.0) == 92
    assert [c.closed for c in connections] == [True, True, False]
    assert pool.evict(92.0) == NEVER
    assert pool.statistics().open == 0


def test_a_server_that_closes_idle_connections_earlier_is_heeded_and_a_later_one_is_not() -> None:
    pool, connections = pool_with_idle(2)
    pool.limit_idle(4.0)
    assert pool.evict(4.5) == 5
    assert [c.closed for c in connections] == [True, False]
    pool.limit_idle(NEVER)
    assert pool.evict(5.0) == 91
    assert not connections[1].closed


def test_surplus_idle_connections_are_closed_after_a_moment_the_oldest_first() -> None:
    pool, connections = pool_with_idle(4, max_idle=2)
    assert pool.evict(0.5) == 1.0
    assert not any(c.closed for c in connections)
    assert pool.evict(3.5) == 92
    assert [c.closed for c in connections] == [True, True, False, False]


def test_release_says_when_to_evict() -> None:
    pool, connections = pool_with_idle(1, max_idle=1)
    add(pool, extra := FakeConnection())
    assert pool.release(extra, 5.0) == 6.0
    assert pool.take() is extra
    assert pool.release(extra, 7.0) == 8.0
    assert pool.take() is extra
    assert pool.take() is connections[0]
    assert pool.release(extra, 9.0) == 99.0


def test_without_room_for_idle_ones_a_connection_is_closed_at_once() -> None:
    pool: Pool[FakeConnection] = Pool(max_idle=0, idle_timeout=90)
    add(pool, connection := FakeConnection())
    assert pool.release(connection, 0.0) == NEVER
    assert connection.closed
    assert pool.statistics().open == 0


@pytest.mark.parametrize("now", [10.0, 10.5])
def test_what_is_past_its_deadline_expires_and_the_rest_says_when(now: float) -> None:
    pool: Pool[FakeConnection] = Pool(max_idle=9, idle_timeout=90, max_connections=3)
    connections = [FakeConnection() for _ in range(3)]
    for connection, deadline in zip(connections, (10.0, 30.0, NEVER), strict=True):
        add(pool, connection)
        connection.deadline = deadline
    waiters = [FakeWaiter(9.0), FakeWaiter(20.0)]
    for waiter in waiters:
        pool.enqueue(waiter)
    assert pool.expire(now) == 20.0
    assert [c.expired for c in connections] == [True, False, False]
    assert [w.over for w in waiters] == [True, False]


def test_only_so_many_dial_at_a_time_unless_they_take_long() -> None:
    pool: Pool[FakeConnection] = Pool(max_idle=9, idle_timeout=90, max_dials=2)
    slots = [pool.reserve() for _ in range(3)]
    assert slots[0]
    assert slots[1]
    assert slots[2] is None
    pool.enqueue(waiter := FakeWaiter())
    assert not waiter.turn
    pool.linger(slots[0])
    assert isinstance(waiter.turn[0], DialSlot)
    pool.enqueue(second := FakeWaiter())
    pool.linger(slots[0])  # once is enough
    pool.dial_failed(slots[0])
    assert not second.turn
    pool.dialled(slots[1], FakeConnection())
    assert isinstance(second.turn[0], DialSlot)


def test_a_connection_that_becomes_free_serves_those_who_wait_to_dial() -> None:
    pool: Pool[FakeConnection] = Pool(max_idle=9, idle_timeout=90, max_dials=1)
    add(pool, connection := FakeConnection())
    assert pool.reserve()
    pool.enqueue(waiter := FakeWaiter())
    pool.release(connection, 0.0)
    assert waiter.turn == [connection]
    assert connection.kept
