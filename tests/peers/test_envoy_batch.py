"""The same batch through a real Envoy and over native gRPC: nobody could tell which it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from batch_gateway.testing import PickerConfig

from .picked_batch import PODS, Ran, World, batch_lines

pytestmark = pytest.mark.peer("envoy")

LINES = 500


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("batch"), batch_lines(LINES))


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("small-batch"), batch_lines(200))


def in_both_ways(world: World, *flags: str, **settings: object) -> Iterator[Ran]:
    for way in ("envoy", "native"):
        yield world.run(way, *flags, **settings)  # pyright: ignore[reportArgumentType]


def test_five_hundred_lines_one_at_a_time_are_chosen_answered_and_counted_alike(
    world: World,
) -> None:
    picker = PickerConfig(choice="prefix", fallbacks=2)
    envoy, native = in_both_ways(world, "--concurrency", "1", picker=picker)
    assert native.choices() == envoy.choices()
    assert native.results == envoy.results
    assert native.accounts() == envoy.accounts()
    cached = [sum(one.cached_tokens for one in ran.decisions) for ran in (envoy, native)]
    assert cached[0] == cached[1] > 0


def test_five_hundred_lines_many_at_a_time_are_answered_and_counted_alike(world: World) -> None:
    envoy, native = in_both_ways(world, "--concurrency", "32", picker=PickerConfig())
    for ran in (envoy, native):
        assert ran.exit_code == 0
        assert len(ran.results) == len(ran.decisions) == LINES
        assert all(one.outcome == "completed" for one in ran.decisions)
        assert all([one.served] == one.endpoints for one in ran.decisions)
    assert native.answers() == envoy.answers()
    assert native.accounts() == envoy.accounts()
    assert native.summary["usage"] == envoy.summary["usage"]


def test_in_turn_every_pod_gets_as_many_requests_either_way(small_world: World) -> None:
    envoy, native = in_both_ways(
        small_world, "--concurrency", "16", picker=PickerConfig(choice="round-robin")
    )
    for ran in (envoy, native):
        assert set(Counter(one.served for one in ran.decisions).values()) == {200 // PODS}
    assert native.answers() == envoy.answers()


def test_streamed_answers_are_the_same_and_counted_alike(small_world: World) -> None:
    envoy, native = in_both_ways(
        small_world, "--stream-upstream", "--concurrency", "16", picker=PickerConfig()
    )
    for ran in (envoy, native):
        assert ran.exit_code == 0
        assert all(one.streamed and one.completion_tokens for one in ran.decisions)
    assert native.answers() == envoy.answers()
    assert native.accounts() == envoy.accounts()


def test_a_rewritten_model_comes_back_under_its_name_either_way(small_world: World) -> None:
    picker = PickerConfig(rewrites={"llama": "llama-tuned"})
    envoy, native = in_both_ways(small_world, "--concurrency", "16", picker=picker)
    for ran in (envoy, native):
        assert {one.target_model for one in ran.decisions} == {"llama-tuned"}
        models = {record["response"]["body"]["model"] for record in ran.results.values()}
        assert models == {"llama"}
    assert native.answers() == envoy.answers()
