"""What joint answers are split into, by the words of the simulator."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.coalesce.joining import join, read_single
from batch_gateway.client.layers.coalesce.splitting import UnsplittableError, share_out, split
from batch_gateway.simulator.answers.answer import Call
from batch_gateway.simulator.answers.completions import CompletionAnswer
from batch_gateway.simulator.answers.embeddings import EmbeddingAnswer
from batch_gateway.simulator.simulator_config import SimulatorConfig

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
CONFIG = SimulatorConfig.instant()


def prepared(endpoint: str, params: dict[str, Any], **more: Any) -> PreparedRequest:
    return PreparedRequest(
        request_id="r", model="m", endpoint=endpoint, body=msgspec.json.encode(params), **more
    )


def simulated(request: PreparedRequest) -> Any:
    kind = CompletionAnswer if request.endpoint == COMPLETIONS else EmbeddingAnswer
    return msgspec.json.decode(kind(Call(request.body, CONFIG, created=1)).body())


TEXTS = st.text(min_size=1, max_size=30)
TOKENS = st.lists(st.integers(0, 50_000), min_size=1, max_size=10)
PROMPTS = st.one_of(
    st.lists(TEXTS, min_size=2, max_size=12), st.lists(TOKENS, min_size=2, max_size=12)
)


@settings(max_examples=60, deadline=None)
@given(endpoint=st.sampled_from([COMPLETIONS, EMBEDDINGS]), prompts=PROMPTS)
def test_split_and_join_give_the_answers_that_single_requests_get(
    endpoint: str, prompts: list[Any]
) -> None:
    name = "prompt" if endpoint == COMPLETIONS else "input"
    requests = [prepared(endpoint, {"model": "m", name: one, "user": "u"}) for one in prompts]
    singles = [read_single(request) for request in requests]
    members = [(r, s) for r, s in zip(requests, singles, strict=True) if s is not None]
    assert len(members) == len(prompts)
    assert len({single.kind for _, single in members}) == 1
    joint = simulated(join(members))
    parts = split(msgspec.json.encode(joint), [single.weight for _, single in members])
    decoded = [json.loads(part) for part in parts]
    expected = [simulated(request) for request in requests]
    for counts in (part["usage"] for part in decoded):
        assert counts["total_tokens"] == counts["prompt_tokens"] + counts.get(
            "completion_tokens", 0
        )
    for key, count in joint["usage"].items():
        if isinstance(count, int):
            assert sum(part["usage"][key] for part in decoded) == count
    for part, alone in zip(decoded, expected, strict=True):
        assert list(part) == list(alone)
        assert list(part["usage"]) == list(alone["usage"])
        unlike = ("usage", "id")
        assert {k: v for k, v in part.items() if k not in unlike} == {
            k: v for k, v in alone.items() if k not in unlike
        }


@given(total=st.integers(0, 10**9), weights=st.lists(st.integers(0, 10**6), min_size=1))
def test_shares_add_up_and_are_never_off_by_one_or_more(total: int, weights: list[int]) -> None:
    shares = share_out(total, weights)
    assert sum(shares) == total
    assert all(share >= 0 for share in shares)
    if sum(weights):
        for share, weight in zip(shares, weights, strict=True):
            assert abs(share * sum(weights) - total * weight) < sum(weights)


def test_entries_are_put_in_the_order_of_their_index() -> None:
    data = [{"index": 1, "embedding": [2]}, {"embedding": [1.50], "index": 0}]
    body = json.dumps({"object": "list", "data": data, "usage": None}).encode()
    parts = [json.loads(part) for part in split(body, [1, 1])]
    assert [part["data"][0]["embedding"] for part in parts] == [[1.5], [2]]
    assert all(part["data"][0]["index"] == 0 for part in parts)
    assert all(part["usage"] is None for part in parts)


def test_counts_with_a_point_are_shared_out_too() -> None:
    body = {"data": [{"index": 0}, {"index": 1}], "usage": {"prompt_tokens": 7.0, "cost": 0.5}}
    parts = split(msgspec.json.encode(body), [1, 1])
    usages = [json.loads(part)["usage"] for part in parts]
    assert usages == [{"prompt_tokens": 4, "cost": 0.5}, {"prompt_tokens": 3, "cost": 0.5}]


def test_numbers_come_out_as_they_were_written() -> None:
    body = b'{"data":[{"index":0,"embedding":[1.50,1e-9]},{"index":1,"embedding":[0.10]}]}'
    assert split(body, [1, 1]) == [
        b'{"data":[{"index":0,"embedding":[1.50,1e-9]}]}',
        b'{"data":[{"index":0,"embedding":[0.10]}]}',
    ]


def test_half_an_emoji_is_split_like_any_other_text() -> None:
    body = rb'{"choices":[{"text":"\ud83d","index":0},{"text":"b","index":1}]}'
    first, second = split(body, [1, 1])
    assert json.loads(first)["choices"] == [{"text": "\ud83d", "index": 0}]
    assert json.loads(second)["choices"] == [{"text": "b", "index": 0}]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"data":[]}',
        b'{"data":[{"index":0}]}',
        b'{"data":[{"index":0},{"index":0}]}',
        b'{"data":[{"index":0},{"index":2}]}',
        b'{"data":[{},{}]}',
        b'{"data":[1,2]}',
        b'{"data":"ab"}',
        b'{"data":[{"index":0},{"index":true}]}',
        b'{"data":[{"index":0},{"index":1}],"choices":[]}',
    ],
)
def test_an_answer_without_one_entry_for_each_is_not_split(body: bytes) -> None:
    with pytest.raises(UnsplittableError):
        split(body, [1, 1])


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": ["a", "b"]},
        {"prompt": ["a"]},
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [[1, 2]]},
        {"prompt": {"id": "x"}},
        {"prompt": "a", "n": 2},
        {"prompt": "a", "best_of": 2},
        {"prompt": "a", "echo": True},
        {"prompt": "a", "logprobs": 0},
        {"prompt": "a", "suffix": "end"},
        {"prompt": "a", "stream": True},
        {"prompt": "a", "seed": 7},
        {"prompt": "a", "prompt_logprobs": 1},
        {},
    ],
    ids=str,
)
def test_what_could_not_be_split_exactly_goes_alone(params: dict[str, Any]) -> None:
    assert read_single(prepared(COMPLETIONS, {"model": "m", **params})) is None


def test_parameters_that_say_nothing_do_not_hinder() -> None:
    harmless = {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "suffix": None}
    params = {"model": "m", "prompt": "a", "stream": False, "seed": None, **harmless}
    assert read_single(prepared(COMPLETIONS, params)) is not None


def test_other_endpoints_and_bodies_that_are_no_json_go_alone() -> None:
    assert read_single(prepared("/v1/chat/completions", {"model": "m", "prompt": "a"})) is None
    broken = PreparedRequest(request_id="r", model="m", endpoint=COMPLETIONS, body=b"{")
    assert read_single(broken) is None


def test_only_requests_with_equal_parameters_and_headers_are_of_one_kind() -> None:
    def kind(params: dict[str, Any], **more: Any) -> object:
        single = read_single(prepared(EMBEDDINGS, {"model": "m", "input": "a", **params}, **more))
        assert single is not None
        return single.kind

    plain = kind({"dimensions": 8, "user": "u"})
    assert kind({"user": "u", "dimensions": 8, "input": "something else"}) == plain
    assert kind({"dimensions": 8, "user": "v"}) != plain
    assert kind({"dimensions": 8}) != plain
    assert kind({"dimensions": 8, "user": "u", "input": [1, 2]}) != plain
    assert kind({"dimensions": 8, "user": "u"}, headers=(("X-Tenant", "a"),)) != plain
    assert kind({"dimensions": 8, "user": "u"}, headers=(("traceparent", "a"),)) == plain


def test_the_joint_request_has_the_last_deadline_and_says_whose_it_is() -> None:
    first = prepared(EMBEDDINGS, {"model": "m", "input": "a"}, deadline=5.0, started=2.0)
    second = prepared(EMBEDDINGS, {"model": "m", "input": "b"}, deadline=9.0, started=1.0)
    singles = [read_single(first), read_single(second)]
    members = [(r, s) for r, s in zip([first, second], singles, strict=True) if s is not None]
    joint = join(members)
    assert (joint.deadline, joint.started, joint.request_id) == (9.0, 1.0, "r+1")
    assert joint.body == b'{"model":"m","input":["a","b"]}'
