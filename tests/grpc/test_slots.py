"""Which connection carries which call, and when another is made: decisions without sockets."""

from __future__ import annotations

from batch_gateway.errors import GatewayConnectionError, InferenceError, RequestTimeoutError
from batch_gateway.grpc.slots import Slots

NEVER = float("inf")


class Connection:
    """Room for so many calls."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self.draining = False
        self.is_lost = False
        self.idle_since = 0.0
        self.closed = False

    @property
    def room(self) -> int:
        return 0 if self.draining else self.most - self.count

    def expire(self, now: float) -> float:
        return NEVER

    def close(self) -> None:
        self.closed = self.draining = True
        self.idle_since = NEVER


class Waiter:
    """A call that waits."""

    def __init__(self, deadline: float = NEVER) -> None:
        self.deadline = deadline
        self.place: Connection | None = None
        self.error: InferenceError | None = None
        self.cancelled = False

    def done(self) -> bool:
        return self.cancelled or self.place is not None or self.error is not None

    def grant(self, connection: Connection) -> None:
        connection.count += 1
        self.place = connection

    def fail(self, error: InferenceError) -> None:
        self.error = error


def waiting(slots: Slots[Connection], *deadlines: float) -> list[Waiter]:
    waiters = [Waiter(deadline) for deadline in deadlines]
    for waiter in waiters:
        slots.enqueue(waiter)
    return waiters


def slots(most: int = 2) -> Slots[Connection]:
    return Slots("picker:1", max_connections=most, idle_timeout=10.0)


def test_one_dial_serves_all_who_wait_in_their_order() -> None:
    pool = slots()
    first, gone, second, third = waiting(pool, *[NEVER] * 4)
    gone.cancelled = True
    assert pool.start_dial(0.0)
    assert not pool.start_dial(0.0)
    connection = Connection(2)
    pool.dialled(connection, 0.0)
    assert first.place is second.place is connection
    assert not third.done()
    assert pool.start_dial(0.0)


def test_nobody_overtakes_those_who_wait() -> None:
    pool = slots()
    waiting(pool, NEVER)
    pool.start_dial(0.0)
    pool.dialled(Connection(1), 0.0)
    waiting(pool, NEVER)
    for connection in pool.connections():
        connection.count = 0  # room, of which those who wait have not been told yet
    assert pool.find() is None


def test_there_are_no_more_connections_than_allowed_but_leaving_ones_do_not_count() -> None:
    pool = slots(1)
    waiting(pool, NEVER, NEVER)
    pool.start_dial(0.0)
    pool.dialled(Connection(1), 0.0)
    assert not pool.start_dial(0.0)
    pool.connections()[0].draining = True
    assert pool.start_dial(0.0)


def test_a_failed_dial_fails_those_who_have_no_other_hope() -> None:
    pool = slots()
    alone = waiting(pool, NEVER, NEVER)
    pool.start_dial(0.0)
    error = GatewayConnectionError("refused")
    pool.dial_failed(error, 0.0)
    assert [waiter.error is not None for waiter in alone] == [True, True]
    assert alone[0].error is not alone[1].error
    waiting(pool, NEVER)
    assert pool.start_dial(0.0)  # nothing else to do than to try again


def test_beside_a_connection_that_works_failures_are_not_repeated_at_once() -> None:
    pool = slots()
    waiting(pool, NEVER)
    pool.start_dial(0.0)
    pool.dialled(Connection(1), 0.0)
    [patient] = waiting(pool, NEVER)
    assert pool.start_dial(5.0)
    pool.dial_failed(GatewayConnectionError("refused"), 5.0)
    assert not patient.done()
    assert not pool.start_dial(5.9)
    assert pool.start_dial(6.0)


def test_a_server_without_any_room_is_not_dialled_over_and_over() -> None:
    pool = slots(10)
    waiting(pool, NEVER)
    pool.start_dial(0.0)
    pool.dialled(Connection(0), 0.0)
    assert not pool.start_dial(0.5)
    assert pool.connected


def test_who_waits_too_long_is_told_what_for() -> None:
    pool = slots(1)
    [unserved, later] = waiting(pool, 1.0, 2.0)
    assert pool.expire(1.0) == 2.0
    assert isinstance(unserved.error, RequestTimeoutError)
    assert "while connecting to picker:1" in str(unserved.error)
    pool.start_dial(1.0)
    pool.dialled(Connection(0), 1.0)
    assert pool.expire(2.0) == NEVER
    assert "no stream to picker:1 became free" in str(later.error)


def test_what_is_idle_is_closed_after_its_time() -> None:
    pool = slots()
    waiting(pool, NEVER)
    pool.start_dial(0.0)
    connection = Connection(5)
    pool.dialled(connection, 0.0)
    connection.idle_since = 3.0
    assert pool.changed(connection, 3.0) == 13.0
    assert pool.evict(12.9) == 13.0
    assert not connection.closed
    assert pool.evict(13.0) == NEVER
    assert connection.closed
    assert pool.find() is None
    connection.is_lost = True
    assert pool.changed(connection, 14.0) == NEVER
    assert pool.statistics().connections == 0
