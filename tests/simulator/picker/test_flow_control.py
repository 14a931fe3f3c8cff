"""Flow control as a model: who waits, who goes, who is refused, who makes room."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from batch_gateway.simulator.picker.choice import PodLoad
from batch_gateway.simulator.picker.flow_control import (
    FlowControl,
    FlowLimits,
    Verdict,
    pool_saturation,
)

FREE, FULL = 0.0, 1.0
NEVER = 1e9


def dispatched(flow: FlowControl) -> list[int]:
    order: list[int] = []
    while (step := flow.step(0.0, FREE)) is not None:
        assert step.verdict is Verdict.DISPATCH
        order.append(step.key)
    return order


def test_higher_priorities_go_first_and_flows_take_turns() -> None:
    flow = FlowControl(FlowLimits())
    arrivals = [(0, "a"), (0, "a"), (0, "a"), (0, "b"), (5, "a"), (-1, "c"), (0, "b")]
    for key, (priority, name) in enumerate(arrivals):
        assert flow.arrive(key, priority, name, NEVER)
    assert dispatched(flow) == [4, 0, 3, 1, 6, 2, 5]


def test_a_full_queue_takes_nobody_and_a_full_pool_lets_nobody_through() -> None:
    flow = FlowControl(FlowLimits(queue_limit=2))
    assert [flow.arrive(key, 0, "", NEVER) for key in range(3)] == [True, True, False]
    assert flow.step(0.0, FULL) is None
    assert dispatched(flow) == [0, 1]


def test_who_has_waited_too_long_is_told_so_before_anybody_goes() -> None:
    flow = FlowControl(FlowLimits())
    flow.arrive(1, 0, "", expires=5.0)
    flow.arrive(2, 9, "", expires=6.0)
    assert flow.step(4.9, FULL) is None
    assert flow.next_expiry() == 5.0
    assert flow.step(5.0, FREE) == (Verdict.EXPIRE, 1)
    assert flow.step(5.0, FREE) == (Verdict.DISPATCH, 2)


def running(flow: FlowControl, **priorities: int) -> None:
    for key, priority in enumerate(priorities.values(), start=1):
        flow.arrive(key, priority, "", NEVER)
        assert flow.step(float(key), FREE) == (Verdict.DISPATCH, key)


def test_the_newest_of_the_lowest_priority_makes_room_one_at_a_time() -> None:
    flow = FlowControl(FlowLimits(evicts=True))
    running(flow, one=-1, two=-5, three=-5, four=0)
    flow.arrive(10, 0, "", NEVER)
    assert flow.step(9.0, FULL) == (Verdict.EVICT, 3)
    assert flow.step(9.0, FULL) is None
    flow.over(3)
    assert flow.step(9.0, FULL) == (Verdict.EVICT, 2)


def test_nobody_makes_room_for_an_equal_and_who_may_not_be_shed_for_nobody() -> None:
    flow = FlowControl(FlowLimits(evicts=True))
    running(flow, one=-1, two=3)
    flow.arrive(10, -1, "", NEVER)
    assert flow.step(9.0, FULL) is None
    flow.over(1)
    flow.arrive(11, 9, "", NEVER)
    assert flow.step(9.0, FULL) is None


def test_a_pool_is_as_full_as_its_pods_are_on_average() -> None:
    limits = FlowLimits(queue_depth=4, kv_usage=0.8)
    loads = [PodLoad("a:1", waiting=4), PodLoad("b:1", kv_usage=0.4)]
    assert pool_saturation(loads, limits, credit=False) == 0.75
    assert pool_saturation([], limits, credit=False) == 1.0
    on_its_way = [PodLoad("a:1", running=3, waiting=1, in_flight=7)]
    assert pool_saturation(on_its_way, limits, credit=False) == 0.25
    assert pool_saturation(on_its_way, limits, credit=True) == 1.0


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_no_flow_goes_twice_while_another_of_its_priority_waits(names: list[str]) -> None:
    flow = FlowControl(FlowLimits())
    for key, name in enumerate(names):
        flow.arrive(key, 0, name, NEVER)
    left = Counter(names)
    round_of: set[str] = set()
    last: dict[str, int] = {}
    for key in dispatched(flow):
        name = names[key]
        if name in round_of:
            assert not {other for other in left if left[other] and other not in round_of}
            round_of = set()
        round_of.add(name)
        left[name] -= 1
        assert last.get(name, -1) < key
        last[name] = key
    assert not any(left.values())


class Traffic(RuleBasedStateMachine):
    """Any order of events, against a list of who should be where."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = FlowControl(FlowLimits(queue_limit=5, evicts=True))
        self.now = 0.0
        self.next = 0
        self.waiting: dict[int, tuple[int, float]] = {}
        self.running: dict[int, int] = {}
        self.evicted: set[int] = set()

    @rule(priority=st.integers(-2, 2), name=st.sampled_from("ab"), ttl=st.integers(0, 5))
    def arrive(self, priority: int, name: str, ttl: int) -> None:
        self.next += 1
        joined = self.flow.arrive(self.next, priority, name, self.now + ttl)
        assert joined == (len(self.waiting) < 5)
        if joined:
            self.waiting[self.next] = (priority, self.now + ttl)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(saturation=st.sampled_from([FREE, FULL]))
    def step(self, saturation: float) -> None:
        step = self.flow.step(self.now, saturation)
        late = {key for key, (_, expires) in self.waiting.items() if expires <= self.now}
        if step is None:
            assert not late
            assert not self.waiting or saturation == FULL
        elif step.verdict is Verdict.EXPIRE:
            assert step.key in late
            del self.waiting[step.key]
        elif step.verdict is Verdict.DISPATCH:
            assert saturation == FREE
            assert not late
            priority, _ = self.waiting.pop(step.key)
            assert all(priority >= other for other, _ in self.waiting.values())
            self.running[step.key] = priority
        else:
            assert not self.evicted
            assert saturation == FULL
            highest = max(priority for priority, _ in self.waiting.values())
            assert self.running[step.key] < min(0, highest)
            assert self.running[step.key] == min(self.running.values())
            self.evicted.add(step.key)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        known = [*self.waiting, *self.running]
        if known:
            key = data.draw(st.sampled_from(known))
            self.flow.over(key)
            self.waiting.pop(key, None)
            self.running.pop(key, None)
            self.evicted.discard(key)

    @rule()
    def drain(self) -> None:
        assert sorted(self.flow.drain()) == sorted(self.waiting)
        self.waiting = {}

    @invariant()
    def counts_agree(self) -> None:
        assert self.flow.waiting == len(self.waiting)
        assert self.flow.running == len(self.running)
        expiries = [expires for _, expires in self.waiting.values()]
        assert self.flow.next_expiry() == min(expiries, default=None)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)
