"""Which pod a picker takes."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.simulator.picker.choice import (
    PodLoad,
    by_load,
    by_prefix_and_load,
    by_turn,
    shuffled,
)
from batch_gateway.simulator.picker.prefix_index import PrefixIndex, block_keys
from batch_gateway.testing import PoolHandle, simulated_pool

from .data_plane import CHAT, Call, DataPlane, data_plane

loads = st.lists(
    st.builds(
        PodLoad,
        st.from_regex(r"10\.0\.0\.[1-9]:80[0-9]{2}", fullmatch=True),
        running=st.integers(0, 20),
        waiting=st.integers(0, 20),
        kv_usage=st.floats(0, 1),
        in_flight=st.integers(0, 50),
    ),
    max_size=8,
    unique_by=lambda pod: pod.address,
)


@given(loads, st.binary(max_size=8), st.randoms(use_true_random=False))
def test_every_choice_ranks_each_pod_once(
    pods: list[PodLoad], key: bytes, rng: random.Random
) -> None:
    ranked = [
        by_load(pods, key),
        by_prefix_and_load(pods, {}, key),
        by_turn(pods, 5),
        shuffled(pods, rng),
    ]
    for ranking in ranked:
        assert sorted(ranking) == sorted(pods)


@given(loads, st.binary(max_size=8))
def test_the_least_loaded_comes_first_whatever_the_order(pods: list[PodLoad], key: bytes) -> None:
    ranked = by_load(pods, key)
    assert all(one.requests <= other.requests for one, other in pairwise(ranked))
    assert by_load(list(reversed(pods)), key) == ranked


def test_equal_pods_are_taken_equally_often() -> None:
    pods = [PodLoad(f"10.0.0.{n}:80") for n in range(4)]
    first = Counter(by_load(pods, str(n).encode())[0].address for n in range(2_000))
    assert all(400 < count < 600 for count in first.values())


def test_a_known_prefix_is_worth_more_than_a_shorter_queue_but_not_than_a_free_cache() -> None:
    free, busy = PodLoad("a:1"), PodLoad("b:1", waiting=5, kv_usage=0.2)
    assert by_prefix_and_load([free, busy], {"b:1": 1.0}, b"")[0] == busy
    assert by_prefix_and_load([free, busy], {"b:1": 0.5}, b"")[0] == free
    full = busy._replace(kv_usage=0.9)
    assert by_prefix_and_load([free, full], {"b:1": 1.0}, b"")[0] == free


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_a_pod_knows_what_it_was_sent_and_nothing_more(one: bytes, other: bytes) -> None:
    index = PrefixIndex()
    index.sent("a:1", block_keys("m", one))
    keys = block_keys("m", other)
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    expected = (shared // 64) / len(keys) if keys else 0.0
    assert index.known_share("a:1", keys) == expected
    assert index.known_share("b:1", keys) == 0.0
    assert index.known_share("a:1", block_keys("another", other)) == 0.0


def test_a_pods_oldest_blocks_are_forgotten_from_the_end_of_the_prompt() -> None:
    index = PrefixIndex(capacity=3)
    first = block_keys("m", b"a" * 128)
    index.sent("a:1", first)
    index.sent("a:1", block_keys("m", b"b" * 128))
    assert index.known_share("a:1", first) == 0.5
    index.forget("a:1")
    assert index.known_share("a:1", first) == 0.0


def hold(plane: DataPlane, count: int) -> list[Call]:
    """Requests that were placed and are not over."""
    calls = [plane.call() for _ in range(count)]
    for call in calls:
        call.send_request()
        call.receive_pick()
    return calls


def test_requests_under_way_count_as_load(pool: PoolHandle, plane: DataPlane) -> None:
    calls = hold(plane, 8)
    placed = Counter(d.endpoints[0] for d in pool.decisions())
    assert placed == dict.fromkeys(pool.addresses, 2)
    for call in calls:
        call.cancel()


def test_prompts_that_begin_alike_meet_on_one_pod_and_are_read_once() -> None:
    system = {"role": "system", "content": "You are a patient teacher. " * 60}
    with simulated_pool(pods=4) as pool, data_plane(pool.url) as plane:
        pool.configure_picker(choice="prefix")
        for number in range(6):
            question = {"role": "user", "content": f"What is {number}?"}
            answer = json.loads(plane.carry({**CHAT, "messages": [system, question]}))
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert (cached > 300) == (number > 0)
        assert len({d.endpoints[0] for d in pool.decisions()}) == 1
        assert pool.decisions()[-1].cached_tokens > 300


def test_each_pod_has_its_turn(pool: PoolHandle, plane: DataPlane) -> None:
    pool.configure_picker(choice="round-robin")
    assert [plane.pick().endpoints[0] for _ in range(8)] == pool.addresses * 2


def test_random_choices_repeat_with_their_seed() -> None:
    def placed() -> list[int]:
        with simulated_pool(pods=3) as pool, data_plane(pool.url) as plane:
            pool.configure_picker(choice="random")
            return [pool.addresses.index(plane.pick().endpoints[0]) for _ in range(12)]

    first = placed()
    assert len(set(first)) > 1
    assert placed() == first


def test_fallbacks_follow_in_the_order_of_the_choice(pool: PoolHandle, plane: DataPlane) -> None:
    pool.configure_picker(choice="round-robin", fallbacks=2)
    assert plane.pick().endpoints == pool.addresses[:3]
    pool.configure_picker(fallbacks=9)
    assert sorted(plane.pick().endpoints) == sorted(pool.addresses)


def test_only_endpoints_of_the_subset_are_taken(pool: PoolHandle, plane: DataPlane) -> None:
    pool.configure_picker(fallbacks=3)
    allowed = pool.addresses[1:3]
    assert sorted(plane.pick(subset=allowed).endpoints) == sorted(allowed)
    assert len(plane.pick(subset=["127.0.0.1"]).endpoints) == 4


def test_a_subset_without_endpoints_leaves_none(pool: PoolHandle, plane: DataPlane) -> None:
    for subset in ([], ["10.9.9.9:80"]):
        status, headers, _ = plane.refusal(subset=subset)
        assert status == 503
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"


def test_a_withdrawn_pod_is_not_taken_until_it_is_back(pool: PoolHandle, plane: DataPlane) -> None:
    pool.configure_picker(fallbacks=3)
    pool.withdraw(0)
    assert pool.addresses[0] not in plane.pick().endpoints
    pool.restore(0)
    assert pool.addresses[0] in plane.pick().endpoints
    for number in range(4):
        pool.withdraw(number)
    assert plane.refusal()[0] == 503


def test_a_session_stays_on_its_pod(pool: PoolHandle, plane: DataPlane) -> None:
    pool.configure_picker(session_affinity=True)
    call = plane.call()
    call.send_request()
    first = call.receive_pick().endpoints[0]
    call.send_response(200, {"content-type": "application/json"}, [b"{}"], served=first)
    echo = call.finish()[0].response_headers.response.header_mutation
    token = next(o.header.raw_value for o in echo.set_headers if o.header.key == "x-session-token")
    held = hold(plane, 4)
    for number in range(4):
        headers = {"x-request-id": f"r-{number}", "x-session-token": token.decode()}
        assert plane.pick(headers=headers).endpoints[0] == first
    for call in held:
        call.cancel()
