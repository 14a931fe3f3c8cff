"""Request batching before a real server: llama.cpp with embeddings on, and with completions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from batch_gateway import (
    CoalescePolicy,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
    RetryPolicy,
    ServerError,
)
from tests.peers.llama import Llama, running_llama

pytestmark = [pytest.mark.peer("llama.cpp"), pytest.mark.anyio]

TOO_LONG = "word " * 800  # more than the 512 tokens that it embeds at once
TEXTS = [
    f"{thing} in the {place}" for thing in ("bread", "rain", "jazz") for place in ("city", "sea")
]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    with running_llama(tmp_path_factory.mktemp("embedder"), "embed") as server:
        yield server


def client(llama: Llama, **settings: Any) -> HTTPInferenceClient:
    quick = RetryPolicy(max_retries=0)
    config = HTTPInferenceClientConfig(llama.url, api_key=llama.key, retry=quick, **settings)
    return HTTPInferenceClient(config)


def joining() -> CoalescePolicy:
    return CoalescePolicy(len(TEXTS), max_wait=0.2)


def embed(text: str) -> InferenceRequest:
    return InferenceRequest(params={"model": "m", "input": text}, endpoint="/v1/embeddings")


def vector(response: InferenceResponse) -> list[float]:
    (entry,) = response.json()["data"]
    assert entry["index"] == 0
    return entry["embedding"]


def alike(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_each_text_gets_its_own_vector_in_the_shape_of_a_single_answer(
    embedder: Llama,
) -> None:
    async with client(embedder) as alone:
        singles = [await alone.generate(embed(text)) for text in TEXTS]
    async with client(embedder, coalesce=joining()) as together:
        joined = await asyncio.gather(*(together.generate(embed(text)) for text in TEXTS))
    assert {response.coalesced for response in joined} == {len(TEXTS)}
    for number, response in enumerate(joined):
        likeness = [alike(vector(response), vector(single)) for single in singles]
        assert likeness.index(max(likeness)) == number
        assert response.json().keys() == singles[number].json().keys()
    counted = [sum(r.usage.input_tokens for r in some if r.usage) for some in (singles, joined)]
    assert counted[0] == counted[1] > 0


async def test_an_input_that_is_too_long_fails_alone(embedder: Llama) -> None:
    async with client(embedder, coalesce=joining()) as together:
        texts = [*TEXTS[:-1], TOO_LONG]
        *good, bad = await asyncio.gather(
            *(together.generate(embed(text)) for text in texts), return_exceptions=True
        )
    assert isinstance(bad, ServerError)
    assert "too large to process" in bad.message
    assert all(isinstance(one, InferenceResponse) and vector(one) for one in good)


async def test_completions_are_split_by_prompt(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked = [
        InferenceRequest(
            params={"model": "m", "prompt": f"{word} is", "max_tokens": 4, "temperature": 0}
        )
        for word in ("Paris", "Bread", "Rain")
    ]
    with running_llama(tmp_path_factory.mktemp("llama")) as llama:
        async with client(llama, coalesce=CoalescePolicy(3, max_wait=0.2)) as together:
            joined = await asyncio.gather(*map(together.generate, asked))
        async with client(llama) as alone:
            single = await alone.generate(asked[0])
    for response in joined:
        (choice,) = response.json()["choices"]
        assert choice["index"] == 0
        assert choice["text"]
        assert response.json().keys() == single.json().keys()
        assert response.coalesced == 3
