"""What lines waited for: told by their clients as it happens, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.waits import Waits
from tests.virtual_time import LoopClock, run_in_virtual_time

Told = list[tuple[float, str, float | None]]


def heard(states: Sequence[tuple[float, str, str]], until: float) -> tuple[Figures, Told]:
    """What is counted and told of breakers that are told to be so at those seconds."""
    figures, told = Figures(), Told()

    async def main() -> None:
        clock = LoopClock()

        def tell(gateway: str, lasted: float | None) -> None:
            told.append((clock.monotonic(), gateway, lasted))

        waits = Waits(figures, tell, clock)
        gateways = {name: GatewayEvents(name, [waits]) for name in "ab"}
        for at, name, state in states:
            await asyncio.sleep(at - clock.monotonic())
            gateways[name].breaker_changed(state)
        await asyncio.sleep(until - clock.monotonic())
        waits.close()

    run_in_virtual_time(main())
    return figures, told


def test_an_outage_is_told_once_it_has_lasted_and_again_when_it_is_over() -> None:
    states = [(2, "a", "open"), (7, "a", "half_open"), (8, "a", "open"), (12, "a", "closed")]
    figures, told = heard(states, 20)
    assert told == [(3, "a", None), (12, "a", 10)]
    assert figures == Figures(outages=1, outage_seconds=10)


def test_a_blip_is_nobodys_business() -> None:
    states = [(2, "a", "open"), (2.9, "a", "closed"), (3, "a", "open"), (3.5, "a", "closed")]
    assert heard(states, 20) == (Figures(), [])


def test_an_outage_that_goes_on_at_the_end_is_counted_until_then() -> None:
    figures, told = heard([(2, "a", "open"), (4.5, "b", "open")], 5)
    assert told == [(3, "a", None)]
    assert figures == Figures(outages=1, outage_seconds=3)


def test_gateways_are_down_each_for_itself() -> None:
    states = [(0, "a", "open"), (2, "b", "open"), (4, "a", "closed"), (8, "b", "closed")]
    figures, told = heard(states, 9)
    assert told == [(1, "a", None), (3, "b", None), (4, "a", 4), (8, "b", 6)]
    assert figures == Figures(outages=2, outage_seconds=10)


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.booleans()), max_size=12))
def test_every_outage_is_told_with_both_its_ends_in_turn(
    steps: list[tuple[int, str, bool]],
) -> None:
    now, states = 0.0, list[tuple[float, str, str]]()
    for quarters, name, up in steps:
        now += quarters / 4 + 0.01
        states.append((now, name, "closed" if up else "open"))
    figures, told = heard(states, now + 0.5)
    begun = [name for _, name, lasted in told if lasted is None]
    assert figures.outages == len(begun)
    assert figures.outage_seconds >= sum(lasted for *_, lasted in told if lasted is not None)
    for name in "ab":
        ends = [lasted is None for _, of, lasted in told if of == name]
        assert ends == [number % 2 == 0 for number in range(len(ends))]


def test_waits_for_rate_limits_are_added_up() -> None:
    figures = Figures()
    events = GatewayEvents("a", [Waits(figures, lambda _name, _lasted: None)])
    for seconds in (0.5, 0.25):
        events.rate_limit_waited(seconds)
    assert figures == Figures(rate_limited=2, rate_limit_seconds=0.75)
