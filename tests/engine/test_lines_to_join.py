"""How many lines are under way for a client that sends several of them as one request."""

from __future__ import annotations

from batch_gateway import CoalescePolicy, HTTPInferenceClient, HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest, InferenceResponse
from batch_gateway.engine.lane import lines_for


class Limited:
    """A client that limits its sendings, and may put several requests into one."""

    def __init__(self, limit: int, joined: int) -> None:
        self.concurrency_limit = limit
        self.requests_per_attempt = joined

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        raise AssertionError("nobody asked")


def test_enough_lines_are_under_way_to_fill_every_sending() -> None:
    assert lines_for(Limited(3, 1)) == 11
    assert lines_for(Limited(3, 32)) == 11 * 32


def test_they_do_not_fill_the_memory() -> None:
    assert lines_for(Limited(1000, 2048)) == 8192
    assert lines_for(Limited(10_000, 2048)) == lines_for(Limited(10_000, 1)) == 15_000


def test_a_client_says_how_many_it_joins() -> None:
    alone = HTTPInferenceClient(HTTPInferenceClientConfig())
    joining = HTTPInferenceClient(HTTPInferenceClientConfig(coalesce=CoalescePolicy(32)))
    assert (alone.requests_per_attempt, joining.requests_per_attempt) == (1, 32)
