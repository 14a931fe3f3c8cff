"""Which requests count as identical."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.cache.key import answer_key

CHAT = "/v1/chat/completions"


def key(body: bytes | dict[str, Any], namespace: str = "g", **more: Any) -> bytes | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"request_id": "r", "model": "m", "endpoint": CHAT, **more}
    return answer_key(PreparedRequest(body=data, **given), namespace)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)
BODIES = st.dictionaries(st.sampled_from(["messages", "seed", "user", "é"]), VALUES, min_size=1)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(body=BODIES)
def test_order_blanks_and_escapes_do_not_matter(body: dict[str, Any]) -> None:
    written = json.dumps(body, indent=2, ensure_ascii=True).encode()
    again = json.dumps(shuffled(body), separators=(",", ":"), ensure_ascii=False).encode()
    assert key(written) == key(again) is not None


@given(one=BODIES, other=BODIES)
def test_different_bodies_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key(one) == key(other)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1}', b'{"a":1.0}'),
        (b'{"a":0.1}', b'{"a":0.10}'),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":1}', b'{"a":true}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"seed":123456789012345678901}', b'{"seed":123456789012345678902}'),
        (b'{"user":"a"}', b'{"user":"b"}'),
        (b'{"a":"\\ud83d"}', b'{"a":"\\ud83e"}'),
        (b"not json", b"not json either"),
    ],
)
def test_what_is_written_differently_is_different(one: bytes, other: bytes) -> None:
    assert key(one) != key(other)


def test_endpoint_model_gateway_and_headers_count() -> None:
    keys = [
        key({}),
        key({}, "another gateway"),
        key({}, model="n"),
        key({}, endpoint="/v1/completions"),
        key({}, headers=(("Authorization", "Bearer of-a-user"),)),
        key({}, headers=(("X-LLM-D-Model-Name-Rewrite", "n"),)),
        answer_key(
            PreparedRequest(request_id="r", model="m", endpoint=CHAT, body=b"{}"),
            "g",
            [("OpenAI-Organization", "o")],
        ),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "header", ["traceparent", "X-Request-Id", "x-llm-d-inference-objective", "x-slo-ttft-ms"]
)
def test_headers_that_trace_or_schedule_do_not_count(header: str) -> None:
    assert key({}, headers=((header, "a"),)) == key({})


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"stream": True}),
        ("/v1/responses", {"background": True}),
        ("/v1/responses", {"conversation": "conv_1"}),
    ],
)
def test_what_depends_on_more_than_the_request_has_no_key(endpoint: str, body: Any) -> None:
    assert key(body, endpoint=endpoint) is None


def test_the_key_of_a_known_request_never_changes() -> None:
    # A change would silently empty everybody's cache: raise the version instead.
    found = key({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "top_p": 0.9})
    assert found is not None
    assert found.hex() == "6f08e068a543eaacdc4ad641d1b9dfe1c6fcfd423c8b5490f75481ae1e21a4bb"
