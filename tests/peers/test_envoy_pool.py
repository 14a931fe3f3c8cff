"""What a real Envoy tells a picker and posts to pods: the recording of it still holds.

`python -m tests.peers.record_envoy` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .envoy_pool import envoy_version
from .picker_scenarios import SCENARIOS, Pool, envoy_before_two_pods, play, read_recording

pytestmark = [pytest.mark.peer("envoy"), pytest.mark.serves_a_module]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with envoy_before_two_pods(tmp_path_factory.mktemp("envoy"), "override_host") as pool:
        yield pool


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with envoy_before_two_pods(tmp_path_factory.mktemp("envoy"), "original_dst") as pool:
        yield pool


@pytest.mark.parametrize("name", SCENARIOS)
def test_envoy_does_what_was_recorded(name: str, pool: Pool) -> None:
    recorded = read_recording()
    assert play(pool, SCENARIOS[name]) == recorded["cases"][name], (
        f"recorded with Envoy {recorded['envoy']}, this is {envoy_version()}"
    )


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "a fallback"])
def test_envoy_of_the_standalone_chart_differs_in_not_saying_who_served(
    name: str, standalone: Pool
) -> None:
    recorded = read_recording()["cases"][name]
    for message in recorded["told"]:
        served = message["metadata_context"].get("filter_metadata", {}).get("envoy.lb", {})
        served.pop("x-gateway-destination-endpoint-served", None)
    assert play(standalone, SCENARIOS[name]) == recorded


def test_envoy_of_the_standalone_chart_takes_no_list_of_fallbacks(standalone: Pool) -> None:
    scenario = SCENARIOS["a fallback"]
    played: dict[str, Any] = play(standalone, scenario, reaches_a_pod=False)
    assert played["outcome"]["message"] == "HTTP 503: no healthy upstream"
    assert [message["kind"] for message in played["told"]][-1] == "response_body"
