"""Which pods are passed over, and when they are tried again: decisions alone, time injected."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import GatewayConnectionError, InferenceError
from batch_gateway.picker.detour import Detour
from batch_gateway.picker.shunned_pods import ShunnedPods

DEAD, OTHER = "10.0.0.1:80", "10.0.0.2:80"


def refused(words: str = "refused") -> InferenceError:
    return GatewayConnectionError(words)


def test_a_pod_that_cannot_be_reached_is_shunned_until_a_probe_reaches_it() -> None:
    pods, problem = ShunnedPods(), refused()
    assert not pods.troubles
    pods.unreachable(DEAD, problem, 0.0)
    assert pods.troubles
    assert pods.problem(DEAD) is problem
    assert pods.problem(OTHER) is None
    assert not pods.begin_probe(DEAD, 0.1)
    assert pods.begin_probe(DEAD, 1.0)
    # One at a time, however long it takes.
    assert not pods.begin_probe(DEAD, 100.0)
    pods.connected(DEAD)
    assert pods.problem(DEAD) is None
    pods.answered(DEAD)
    assert not pods.troubles


def test_probes_become_rarer_while_they_fail_but_never_stop() -> None:
    pods, now, waits = ShunnedPods(), 0.0, list[float]()
    pods.unreachable(DEAD, refused(), now)
    for _ in range(12):
        began = now
        while not pods.begin_probe(DEAD, now):
            now += 0.125
        waits.append(now - began)
        pods.unreachable(DEAD, refused(), now)
    assert waits == sorted(waits)
    assert waits[0] <= 1.0
    assert max(waits) <= 6.0


def test_requests_that_fail_at_one_instant_are_one_failure() -> None:
    pods = ShunnedPods()
    for _ in range(64):
        pods.unreachable(DEAD, refused(), 0.0)
    assert pods.begin_probe(DEAD, 1.0)


def test_one_broken_connection_says_nothing_and_several_in_a_row_do() -> None:
    pods = ShunnedPods()
    for _ in range(20):
        pods.broke(DEAD, refused("broke"), 0.0)
        assert pods.problem(DEAD) is None
        pods.answered(DEAD)
    for _ in range(3):
        pods.broke(DEAD, refused("broke"), 1.0)
    assert pods.problem(DEAD) is not None


def test_a_pod_that_takes_connections_and_breaks_them_is_not_trusted_before_it_answers() -> None:
    pods = ShunnedPods()
    for _ in range(3):
        pods.broke(DEAD, refused("broke"), 0.0)
    assert pods.begin_probe(DEAD, 1.0)
    pods.connected(DEAD)
    assert pods.problem(DEAD) is None
    pods.broke(DEAD, refused("broke"), 1.0)
    assert pods.problem(DEAD) is not None


def test_pods_that_come_and_go_for_ever_do_not_fill_memory() -> None:
    pods = ShunnedPods()
    for number in range(5000):
        pods.unreachable(f"10.0.{number // 250}.{number % 250}:80", refused(), float(number))
    assert pods.problem("10.0.0.0:80") is None
    assert pods.problem("10.0.19.249:80") is not None


Steps = st.lists(
    st.tuples(
        st.sampled_from(["unreachable", "broke", "answered", "probe", "later"]), st.booleans()
    )
)


@given(Steps)
def test_whatever_happens_a_shunned_pod_is_probed_again_and_an_answer_clears_it(
    steps: list[tuple[str, bool]],
) -> None:
    pods, now, probing = ShunnedPods(), 0.0, False
    for step, works in steps:
        if step == "unreachable":
            pods.unreachable(DEAD, refused(), now)
        elif step == "broke":
            pods.broke(DEAD, refused(), now)
        elif step == "answered":
            pods.answered(DEAD)
            assert not pods.troubles
        elif step == "later":
            now += 3.0
        elif probing or pods.begin_probe(DEAD, now):
            probing = False
            if works:
                pods.connected(DEAD)
            else:
                pods.unreachable(DEAD, refused(), now)
    assert pods.problem(DEAD) is None or pods.begin_probe(DEAD, now + 10.0)


def detour() -> Detour:
    return Detour("/v1/completions", (), b"{}", 10.0)


def test_the_picker_is_asked_for_a_pod_that_is_known_to_work_and_then_for_any() -> None:
    way = detour()
    way.failed({DEAD: refused()})
    assert way.next_subset([OTHER]) == [OTHER]
    way.failed({DEAD: refused()})
    assert way.next_subset([OTHER]) == ()
    way.failed({DEAD: refused()})
    assert way.next_subset([OTHER]) == [OTHER]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.booleans())
def test_a_detour_ends_once_there_is_nothing_new_to_learn(
    chosen: list[int], others_work: bool
) -> None:
    way, asked, seen = detour(), 0, set[int]()
    known = [OTHER] if others_work else []
    way.failed({"start": refused()})
    for number in [*chosen, *(chosen[-1],) * 10]:
        if way.next_subset(known) is None:
            break
        asked += 1
        seen.add(number)
        way.failed({str(number): refused()})
    else:
        raise AssertionError("it goes on and on")
    assert asked <= 4 * (len(seen) + 1)
