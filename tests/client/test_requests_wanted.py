"""How many requests a client has use for at once, for whoever has many."""

from __future__ import annotations

from typing import Any

from batch_gateway import (
    AdaptiveConcurrency,
    CoalescePolicy,
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
)


def client(**settings: Any) -> HTTPInferenceClient:
    return HTTPInferenceClient(HTTPInferenceClientConfig(**settings))


def test_as_many_as_may_be_sent_and_a_few_more_where_that_is_being_found() -> None:
    assert client().requests_wanted is None
    assert client(concurrency=FixedConcurrency(3)).requests_wanted == 3
    assert client(concurrency=AdaptiveConcurrency(initial=16)).requests_wanted == 24


def test_those_that_wait_out_a_backoff_take_no_place_but_are_no_more_than_may_be_sent() -> None:
    limited = client(concurrency=AdaptiveConcurrency(initial=10))
    limited.events.backed_off(4)
    assert limited.requests_wanted == 10 + 8 + 4
    limited.events.backed_off(100)
    assert limited.requests_wanted == 10 + 8 + 10


def test_enough_to_fill_every_sending_but_not_the_memory() -> None:
    def wanted(limit: int, joined: int) -> int | None:
        policy = CoalescePolicy(joined)
        return client(concurrency=FixedConcurrency(limit), coalesce=policy).requests_wanted

    assert wanted(3, 32) == 3 * 32
    assert wanted(1000, 2048) == 8192
    assert wanted(10_000, 2048) == 10_000


def test_who_listens_is_told_of_each_change_until_it_listens_no_longer() -> None:
    limited, told = client(concurrency=AdaptiveConcurrency(initial=10)), list[int | None]()
    ends = limited.when_wanted(lambda: told.append(limited.requests_wanted))
    limited.events.limit_changed(20)
    limited.events.limit_changed(20)  # for another reason
    limited.events.backed_off(1)
    limited.events.backed_off(-1)
    ends()
    limited.events.limit_changed(30)
    assert told == [28, 29, 28]
