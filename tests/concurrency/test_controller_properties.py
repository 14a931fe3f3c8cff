"""What holds for the adaptive controller whatever happens, and in whichever order."""

from __future__ import annotations

import math
import pickle
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from batch_gateway import AdaptiveConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started

LONGEST_OWN_PAUSE, LONGEST_ASKED_PAUSE = 2.0, 300.0


@dataclass(frozen=True)
class Sent:
    """As many as there are permits for, up to `count`."""

    count: int


@dataclass(frozen=True)
class Came:
    """The end of one that is under way, or its first token when `ended` is None."""

    which: int
    ended: Ended | None
    first_token: float = 0.0


@dataclass(frozen=True)
class Waited:
    seconds: float


Step = Sent | Came | Waited


@dataclass
class World:
    """A controller, the clock and what is under way; checks the controller after every step."""

    policy: AdaptiveConcurrency
    now: float = 0.0
    asked_until: float = 0.0
    under_way: list[Started] = field(default_factory=list[Started])

    def __post_init__(self) -> None:
        self.controller = AdaptiveController(self.policy)
        self.check()

    def play(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step:
                case Sent(count):
                    self.send(count)
                case Came(which, ended, seconds) if self.under_way:
                    which %= len(self.under_way)
                    if ended is None:
                        self.controller.first_token(self.under_way[which], seconds, self.now)
                    else:
                        self.end(self.under_way.pop(which), ended)
                case Waited(seconds):
                    self.now += seconds
                case Came():
                    pass
            self.check()

    def send(self, count: int) -> None:
        while count and self.may_send:
            self.under_way.append(self.controller.started(self.now))
            count -= 1

    @property
    def may_send(self) -> bool:
        controller = self.controller
        return controller.in_flight < controller.limit and self.now >= controller.paused_until

    def end(self, started: Started, ended: Ended) -> None:
        asked = min(LONGEST_ASKED_PAUSE, ended.retry_after or 0.0)
        paused_before = self.controller.paused_until
        self.controller.finished(started, ended, self.now)
        self.asked_until = max(self.asked_until, self.now + asked)
        paused = self.controller.paused_until
        if ended.outcome is Outcome.REFUSED:
            latest = self.now + max(asked, LONGEST_OWN_PAUSE)
            assert paused <= max(paused_before, latest)
        else:
            assert paused <= paused_before

    def check(self) -> None:
        controller, policy = self.controller, self.policy
        assert isinstance(controller.limit, int)
        assert policy.minimum <= controller.limit <= policy.maximum
        assert controller.in_flight == len(self.under_way)
        assert math.isfinite(controller.paused_until)

    def abandon_all(self) -> None:
        while self.under_way:
            self.end(self.under_way.pop(), Ended(Outcome.ABANDONED))
        self.check()

    def healthy(self, latency: float, answers: int) -> Iterator[int]:
        """The limits that a server brings that takes as long for each of any number."""
        self.now = max(self.now, self.asked_until, self.controller.paused_until)
        under_way: deque[Started] = deque()
        for _ in range(answers):
            if not under_way:
                self.now = max(self.now, self.controller.paused_until)
            while self.may_send:
                under_way.append(self.controller.started(self.now))
            started = under_way.popleft()
            self.now = max(self.now, started.at + latency)
            self.end(started, Ended(Outcome.OK, tokens=100))
            yield self.controller.limit
        while under_way:
            self.end(under_way.popleft(), Ended(Outcome.ABANDONED))
        self.check()


TOKENS = st.one_of(st.just(0), st.integers(0, 500), st.just(10**9), st.just(2**63 - 1))
RETRY_AFTER = st.none() | st.sampled_from([0.0, 0.001, 1.0, 30.0, 3600.0]) | st.floats(0)
ENDED = st.one_of(
    st.builds(Ended, st.just(Outcome.OK), TOKENS, st.none()),
    st.builds(Ended, st.just(Outcome.REFUSED), st.just(0), RETRY_AFTER),
    st.builds(
        Ended,
        st.sampled_from([Outcome.FAILED, Outcome.UNREACHABLE, Outcome.ABANDONED]),
        st.just(0),
        RETRY_AFTER,
    ),
)
SECONDS = st.one_of(
    st.just(0.0),
    st.just(1e-9),
    st.floats(0, 0.5),
    st.floats(0, 30),
    st.sampled_from([300.0, 86_400.0, 1e7]),
)
STEPS = st.lists(
    st.one_of(
        st.builds(Sent, st.sampled_from([1, 2, 8, 1000])),
        st.builds(Came, st.integers(0, 1000), ENDED),
        st.builds(Came, st.integers(0, 1000), st.none(), SECONDS),
        st.builds(Waited, SECONDS),
    ),
    max_size=200,
)


@st.composite
def policies(draw: st.DrawFn, largest: int = 200) -> AdaptiveConcurrency:
    minimum = draw(st.integers(1, 20))
    maximum = draw(st.integers(minimum, largest))
    return AdaptiveConcurrency(
        initial=draw(st.integers(minimum, maximum)),
        minimum=minimum,
        maximum=maximum,
        worthwhile=draw(st.sampled_from([0.01, 0.15, 0.9])),
    )


@dataclass(frozen=True)
class RoughDay:
    """Many steps of one temper, such as a server that refuses half of them for an hour."""

    seed: int
    outcomes: Sequence[Outcome]
    pace: float
    streamed: bool
    answers: int

    @property
    def steps(self) -> list[Step]:
        chance = random.Random(self.seed)
        steps: list[Step] = []
        for _ in range(self.answers):
            steps.append(Sent(chance.choice((1, 4, 1000))))
            steps.append(Waited(chance.expovariate(1.0) * self.pace))
            if self.streamed:
                steps.append(Came(chance.randrange(1000), None, chance.expovariate(1.0)))
            ended = Ended(chance.choice(self.outcomes), chance.choice((0, 1, 300)))
            steps.append(Came(chance.randrange(1000), ended))
        return steps


ROUGH_DAYS = st.builds(
    RoughDay,
    seed=st.integers(0, 2**32),
    outcomes=st.lists(st.sampled_from(Outcome), min_size=1, max_size=4),
    pace=st.sampled_from([0.0, 1e-4, 0.01, 1.0]),
    streamed=st.booleans(),
    answers=st.integers(10, 600),
)


# First tokens that are said to have taken longer than their answers.
ODD_CLOCK = RoughDay(seed=0, outcomes=[Outcome.OK], pace=0.01, streamed=True, answers=122)


@settings(max_examples=200, deadline=None)
@given(policies(), STEPS | ROUGH_DAYS)
@example(AdaptiveConcurrency(initial=1, maximum=1), ODD_CLOCK)
def test_the_limit_stays_in_its_bounds_and_the_count_of_requests_is_right(
    policy: AdaptiveConcurrency, past: list[Step] | RoughDay
) -> None:
    world = World(policy)
    world.play(past.steps if isinstance(past, RoughDay) else past)
    world.abandon_all()
    assert world.controller.in_flight == 0


# So long a healthy server may have to answer before the limit is off its minimum again: longer
# than a best throughput is remembered.
LONGEST_RECOVERY = 400.0
FEWEST_ANSWERS = 3000
# By then the pauses and caps of the past are over.
FORGOTTEN_AFTER = 3600.0
HARDLY_WORTHWHILE = AdaptiveConcurrency(initial=3, minimum=3, maximum=10, worthwhile=0.01)
REFUSED_ONCE = [
    Sent(1),
    Came(0, Ended(Outcome.REFUSED)),
    Waited(86_400.0),
    Sent(1),
    Waited(86_400.0),
    Came(0, Ended(Outcome.OK)),
]

REFUSED_AFTER_A_DAY = [
    Sent(2),
    Waited(86_400.0),
    Came(0, Ended(Outcome.REFUSED)),
]

ANSWERED_AFTER_A_DAY = [
    Sent(13),
    Came(12, Ended(Outcome.REFUSED)),
    Waited(86_400.0),
    *[Came(0, Ended(Outcome.OK))] * 3,
]

# The two levels of a hold at the least allowed are to differ.
HELD_AT_THE_LEAST = RoughDay(seed=0, outcomes=[Outcome.OK], pace=0.01, streamed=False, answers=108)


@settings(max_examples=80, deadline=None)
@given(policies(), STEPS | ROUGH_DAYS, st.sampled_from([0.05, 0.2, 40.0]))
@example(AdaptiveConcurrency(initial=17, minimum=17, maximum=158), HELD_AT_THE_LEAST, 0.05)
@example(HARDLY_WORTHWHILE, replace(ODD_CLOCK, answers=517), 0.2)
@example(AdaptiveConcurrency(initial=5, minimum=4, maximum=200), REFUSED_ONCE, 0.2)
@example(AdaptiveConcurrency(initial=2, minimum=1, maximum=2), REFUSED_AFTER_A_DAY, 0.05)
@example(
    AdaptiveConcurrency(initial=13, minimum=7, maximum=14, worthwhile=0.01),
    ANSWERED_AFTER_A_DAY,
    0.05,
)
def test_a_healthy_server_always_brings_the_limit_off_its_minimum(
    policy: AdaptiveConcurrency, past: list[Step] | RoughDay, latency: float
) -> None:
    assume(policy.maximum >= 2 * policy.minimum)
    world = World(policy)
    world.play(past.steps if isinstance(past, RoughDay) else past)
    world.abandon_all()
    world.now += FORGOTTEN_AFTER
    answers = max(FEWEST_ANSWERS, int(2 * policy.minimum * LONGEST_RECOVERY / latency))
    assert any(limit > policy.minimum for limit in world.healthy(latency, answers))


def test_what_the_controller_remembers_does_not_grow_with_the_answers_it_saw() -> None:
    for maximum in (4, 100):
        world = World(AdaptiveConcurrency(initial=4, maximum=maximum))
        # What was just sent is remembered, and that is little while the limit climbs.
        _, before, after = [remembered(world, answers) for answers in (2_000, 2_000, 20_000)]
        assert after < 1.5 * before


def remembered(world: World, answers: int) -> int:
    """Bytes that the controller comes to, after so many more answers of a healthy server."""
    deque(world.healthy(0.05, answers), maxlen=0)
    return len(pickle.dumps(world.controller))
