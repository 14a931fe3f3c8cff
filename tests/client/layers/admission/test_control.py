"""Admission as a whole, by its decisions alone: whatever happens in whichever order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    AdaptiveConcurrency,
    CircuitBreakerPolicy,
    CircuitOpenError,
    FixedConcurrency,
    GatewayConnectionError,
    InferenceError,
    RateLimit,
    RateLimitError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.control import AdmissionControl, Permit, Waiter
from batch_gateway.client.layers.circuit_breaker import BreakerState
from batch_gateway.wire.usage import Usage

NEVER = float("inf")
DAY = 86_400.0

breakers = st.sampled_from(
    [
        None,
        CircuitBreakerPolicy(minimum_requests=2, connect_failures=2, when_open="wait"),
        CircuitBreakerPolicy(minimum_requests=1, when_open="wait", patience=20),
        CircuitBreakerPolicy(minimum_requests=1, when_open="fail"),
    ]
)
rates = st.sampled_from(
    [None, RateLimit(requests_per_minute=120, burst=0), RateLimit(tokens_per_minute=6000)]
)
limits = st.sampled_from(
    [None, FixedConcurrency(1), FixedConcurrency(3), AdaptiveConcurrency(initial=2, maximum=5)]
)
policies = st.fixed_dictionaries({"breaker": breakers, "rate_limit": rates, "concurrency": limits})


class Line(Waiter):
    """A request, and what has become of it."""

    def __init__(self, number: int, due: float, tenant: str) -> None:
        super().__init__(
            PreparedRequest(
                request_id=str(number),
                model="m",
                endpoint="/v1/x",
                body=b"{}",
                due=due,
                tenant=tenant,
            )
        )
        self.tenant = tenant
        self.left = False

    @property
    def is_gone(self) -> bool:
        return self.left


class World:
    """A gateway whose clock and answers the test moves, and everybody who wants to go there.

    Attributes:
        given: who got a permit, and when, in order.
        refused: who was told not to wait.
    """

    def __init__(self, policies: dict[str, object]) -> None:
        self.now = 0.0
        rate_limit = policies.get("rate_limit")
        self._per_minute = (
            rate_limit.requests_per_minute if isinstance(rate_limit, RateLimit) else None
        )
        self.control = AdmissionControl[Line](0.0, **policies)  # type: ignore[arg-type]
        self.waiting: list[Line] = []
        self.under_way: list[tuple[Line, Permit]] = []
        self.given: list[tuple[Line, float]] = []
        self.refused: list[Line] = []
        self.lines = 0

    # -- what happens ----------------------------------------------------------------------

    def come(self, due: float = NEVER, tenant: str = "", *, settle: bool = True) -> Line:
        line = Line(self.lines, self.now + due, tenant)
        self.lines += 1
        permit = self.control.admit(line.request, self.now)
        if permit is not None:
            assert not self.waiting
            self._goes(line, permit)
            return line
        try:
            self.control.come(line, self.now)
        except InferenceError:
            self.refused.append(line)
            return line
        self.waiting.append(line)
        if settle:
            self.settle()
        return line

    def leave(self, line: Line) -> None:
        self.waiting.remove(line)
        self.control.leave(line)
        self.settle()

    def end(self, place: int, how: str) -> None:
        line, permit = self.under_way.pop(place)
        if how == "answered":
            usage = Usage(3, 4)
            self.control.answered(permit, line.request, usage, self.now)
        elif how == "cut off":
            self.control.abandoned(permit, self.now)
        elif how == "declined":
            self.control.declined(permit, self.now)
            self.given.remove((line, permit.at))
        elif self.control.failed(permit, ERRORS[how](), self.now):
            self.control.come(line, self.now)
            self.waiting.append(line)
        self.settle()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.control.limit is not None:
            self.control.limit.look(self.now)
        self.settle()

    def settle(self) -> None:
        before = self._breaker()
        while (ended := self.control.next(self.now)) is not None:
            line, permit = ended
            assert not line.left
            self.waiting.remove(line)
            if isinstance(permit, CircuitOpenError):
                assert before is not BreakerState.CLOSED
                self.refused.append(line)
            else:
                self._goes(line, permit, before)
            before = self._breaker()
        self._check()

    def drain(self) -> None:
        """Until nobody waits: answers come, and time passes where there are none to come."""
        for _ in range(20 * self.lines + 100):
            if not self.waiting:
                break
            if self.under_way:
                self.wait(0.01)
            if self.under_way:
                self.end(0, "answered")
            else:
                self.wait(self.control.look_after(self.now))
        assert not self.waiting

    # -- what must hold --------------------------------------------------------------------

    def _goes(
        self, line: Line, permit: Permit, breaker: BreakerState = BreakerState.CLOSED
    ) -> None:
        # While one finds out whether the gateway is back, nobody else goes.
        assert breaker is not BreakerState.HALF_OPEN
        assert permit.probe is (self._breaker() is BreakerState.HALF_OPEN)
        self.under_way.append((line, permit))
        self.given.append((line, self.now))
        if (limit := self.control.limit) is not None:
            assert limit.controller.in_flight == len(self.under_way)

    def _breaker(self) -> BreakerState:
        breaker = self.control.breaker
        return BreakerState.CLOSED if breaker is None else breaker.state

    def _check(self) -> None:
        limit, limited = self.control.limit, self.control.rates
        assert len(self.control.waiting) == len(self.waiting)
        if self._per_minute is not None:
            assert len(self.given) <= 1 + (self.now + 0.001) * self._per_minute / 60
        if limit is not None:
            controller = limit.controller
            assert controller.in_flight == len(self.under_way)
            full = controller.in_flight >= controller.allowed_now
            held = full or self.now < controller.paused_until
        else:
            held = False
        if self.waiting:
            down = self._breaker() is not BreakerState.CLOSED
            assert held or down or (limited is not None and limited.wait(self.now) > 0)
            # Nobody waits for ever for what nobody else will bring.
            assert self.under_way or self.control.look_after(self.now) < NEVER


ERRORS = {
    "unreachable": lambda: GatewayConnectionError("connection refused"),
    "busy": lambda: RateLimitError("busy", status_code=429, retry_after=3.0),
    "wrong": lambda: InferenceError("wrong", status_code=400),
}

events = st.lists(
    st.one_of(
        st.tuples(
            st.just("come"), st.sampled_from([1.0, 60.0, DAY, NEVER]), st.sampled_from("abc")
        ),
        st.tuples(
            st.sampled_from(["answered", "cut off", *ERRORS]), st.integers(0, 9), st.just("")
        ),
        st.tuples(st.just("leave"), st.integers(0, 9), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 10.0]), st.just("")),
    ),
    max_size=60,
)
Events = Sequence[tuple[str, float, str]]


def play(world: World, happens: Events) -> None:
    for what, number, tenant in happens:
        if what == "come":
            world.come(number, tenant)
        elif what == "wait":
            world.wait(number)
        elif what == "leave":
            if world.waiting:
                world.leave(world.waiting[int(number) % len(world.waiting)])
        elif world.under_way:
            world.end(int(number) % len(world.under_way), what)


@given(policies, events)
def test_breaker_rate_and_limit_hold_in_any_order_and_nobody_waits_for_ever(
    policies: dict[str, object], happens: Events
) -> None:
    world = World(policies)
    play(world, happens)
    world.drain()
    while world.under_way:
        world.end(0, "answered")
    assert world.control.limit is None or world.control.limit.controller.in_flight == 0


@given(policies, events, st.sampled_from("abcd"))
def test_an_urgent_line_that_arrives_has_one_of_the_next_two_permits(
    policies: dict[str, object], happens: Events, tenant: str
) -> None:
    world = World(policies)
    play(world, [(what, DAY if what == "come" else n, name) for what, n, name in happens])
    before = len(world.given)
    urgent = world.come(60.0, tenant)
    world.drain()
    first = [line for line, _ in world.given[before : before + 2]]
    assert urgent in first or urgent in world.refused


@given(
    limits=st.fixed_dictionaries({"rate_limit": rates, "concurrency": limits}).filter(
        lambda limits: any(limits.values())
    ),
    extra=st.lists(st.integers(0, 30), min_size=2, max_size=6),
)
def test_tenants_share_evenly_however_many_each_has_waiting(
    limits: dict[str, object], extra: list[int]
) -> None:
    world, least = World(limits), 5
    while not world.waiting:
        world.come(tenant="first")
    for name, more in enumerate(extra):
        for _ in range(least + more):
            world.come(DAY, str(name))
    world.drain()
    turns = [line.tenant for line, _ in world.given if line.tenant != "first"]
    assert set(Counter(turns[: least * len(extra)]).values()) == {least}


@given(policies, events, st.sets(st.integers(0, 59)))
def test_who_leaves_before_its_turn_leaves_nothing_behind(
    policies: dict[str, object], happens: Events, leavers: set[int]
) -> None:
    """Those who stay go at the same times as if it had never come."""
    if isinstance(breaker := policies["breaker"], CircuitBreakerPolicy):
        policies = {**policies, "breaker": breaker if breaker.when_open == "wait" else None}
    without, with_leavers = World(policies), World(policies)
    for place, event in enumerate(happens):
        what, _number, _ = event
        one = ("come", NEVER, "") if what == "come" else event
        if what == "leave":
            continue
        play(without, [one])
        if place in leavers and with_leavers.waiting:
            gone = with_leavers.come()
            gone.left = True
            with_leavers.lines -= 1
        play(with_leavers, [one])
        for line in [line for line in with_leavers.waiting if line.left]:
            with_leavers.leave(line)
    for world in (without, with_leavers):
        world.drain()
    left, right = (
        [(line.request.request_id, at) for line, at in world.given]
        for world in (without, with_leavers)
    )
    assert left == right


@given(st.integers(1, 3), st.integers(1, 20))
def test_a_permit_that_nobody_wants_goes_to_the_next(limit: int, lines: int) -> None:
    world = World(
        {
            "concurrency": FixedConcurrency(limit),
            "rate_limit": RateLimit(requests_per_minute=120, burst=0),
        }
    )
    for _ in range(lines + limit):
        world.come()
    while world.under_way:
        world.end(0, "declined")
        world.wait(0.5)
    assert world.given == []
    assert not world.waiting
