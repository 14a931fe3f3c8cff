"""The native client beside what a real Envoy was seen to do: the same, but for what is named here.

Runs without Envoy: `test_envoy_pool` holds the recording against the real one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from .picker_scenarios import SCENARIOS, Pool, play, read_recording
from .pool_pod import running_pod
from .recording_picker import running_recording_picker

pytestmark = pytest.mark.serves_a_module

# A proxy says through whom a request came; here nobody stands between.
OF_A_PROXY = ("x-envoy-external-address", "x-forwarded-for", "x-forwarded-proto")
SERVED = "x-gateway-destination-endpoint-served"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with (
        running_recording_picker() as picker,
        running_pod() as first,
        running_pod() as second,
    ):
        yield Pool(f"grpc://127.0.0.1:{picker.port}", picker, first, second)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_native_client_does_as_envoy_does(name: str, pool: Pool) -> None:
    expected = copy.deepcopy(read_recording()["cases"][name])
    for message in expected["told"]:
        told_natively(message)
    if expected["pod"] is not None:
        posted_natively(expected["pod"], SCENARIOS[name].endpoints[-1])
    if name == "a picker that fails":
        # Envoy keeps to itself what the picker said.
        assert expected["outcome"]["message"] == "HTTP 500: Internal Server Error (no body)"
        authority = pool.url.partition("://")[2]
        said = f"the endpoint picker {authority} answered INTERNAL: no pods in the pool"
        expected["outcome"]["message"] = said
    assert play(pool, SCENARIOS[name]) == expected


def told_natively(message: dict[str, Any]) -> None:
    """What Envoy told the picker, without what the native client leaves out."""
    for header in OF_A_PROXY:
        message.get("headers", {}).pop(header, None)
    known = message.pop("metadata_context").get("filter_metadata", {}).get("envoy.lb", {})
    if message["kind"] == "response_headers":
        # Said once, and without the picker's own words: pickers look for it here and nowhere else.
        metadata = {"envoy.lb": {SERVED: known[SERVED]}}
        message["metadata_context"] = {"filter_metadata": metadata}


def posted_natively(request: dict[str, Any], pod: str) -> None:
    """What reached the pod through Envoy, as the native client sends it."""
    headers = request["headers"]
    for header in OF_A_PROXY:
        del headers[header]
    # The pod's own name, as for any HTTP server; `authority` of the configuration is another.
    headers["host"] = pod
    # The whole body is known before it is sent.
    del headers["transfer-encoding"]
    headers["content-length"] = str(request["size"])
