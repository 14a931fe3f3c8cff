"""The URL of a gateway as people paste it, and where requests to it go."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    ConfigError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    UnknownStatusError,
)
from batch_gateway.http.base_url import ApiPath, checked_base_url
from batch_gateway.http.target import Target
from tests.http.behaviour.scripted_server import Peer, answer, serving

CHAT = "/v1/chat/completions"
BATCH = InferenceRequest(params={"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
ANSWER = (
    b'{"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop",'
    b' "message": {"role": "assistant", "content": "Hi"}}]}'
)
DEPLOYMENT = "/openai/deployments/gpt-4o"


def asked(base_url: str, path: str = CHAT) -> str:
    return Target.of(HTTPInferenceClientConfig(base_url)).url(path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://h", "http://h"),
        ("http://h/", "http://h"),
        ("http://h?", "http://h"),
        ("http://h/#", "http://h"),
        ("http://h/v1", "http://h"),
        ("http://h/v1/", "http://h"),
        ("http://h/v1//", "http://h"),
        ("http://h/v1/?", "http://h"),
        ("http://h/v1/chat/completions", "http://h"),
        ("http://h/v1/embeddings/", "http://h"),
        ("http://h/v1/responses", "http://h"),
        ("http://h/v1/models", "http://h"),
        ("HTTP://H", "http://h"),
        ("HTTPS://Api.Example.COM/v1", "https://api.example.com"),
        ("  http://h:8000\n", "http://h:8000"),
        ('"http://h:8000/v1"', "http://h:8000"),
        ("'http://h:8000'", "http://h:8000"),
        ("<http://h:8000>", "http://h:8000"),
        ("“http://h:8000”", "http://h:8000"),
        ("\ufeffhttp://h:8000/v1\u200b\xa0", "http://h:8000"),
        ("h:8000", "http://h:8000"),
        ("localhost", "http://localhost"),
        ("localhost:8000/v1", "http://localhost:8000"),
        ("vllm/v1", "http://vllm"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("10.1.2.3/v1", "http://10.1.2.3"),
        ("[::1]:8000/v1", "http://[::1]:8000"),
        ("http://[FE80::1]:8000/v1", "http://[fe80::1]:8000"),
        ("api.example.com/v1", "https://api.example.com"),
        ("vllm.ns.svc.cluster.local:8000", "http://vllm.ns.svc.cluster.local:8000"),
        ("gateway.example.com:443/v1", "https://gateway.example.com:443"),
        ("https://h/openai/v1", "https://h/openai"),
        ("http://gw/team-a/", "http://gw/team-a"),
        ("grpc://picker:9002/v1", "grpc://picker:9002"),
    ],
)
def test_one_gateway_has_one_name_however_it_is_written(given: str, kept: str) -> None:
    assert HTTPInferenceClientConfig(given).base_url == kept


@pytest.mark.parametrize(
    ("base", "url"),
    [
        # Public documentation of each, 2025 and 2026: what it tells users of the OpenAI SDK.
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/"
            "openapi/chat/completions",
        ),
        (
            "https://ark.cn-beijing.volces.com/api/v3",
            "https://ark.cn-beijing.volces.com/api/v3/chat/completions",
        ),
        (
            "https://open.bigmodel.cn/api/paas/v4/",
            "https://open.bigmodel.cn/api/paas/v4/chat/completions",
        ),
        (
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions",
        ),
        ("https://qianfan.baidubce.com/v2", "https://qianfan.baidubce.com/v2/chat/completions"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        (
            "https://api.cloudflare.com/client/v4/accounts/a/ai/v1",
            "https://api.cloudflare.com/client/v4/accounts/a/ai/v1/chat/completions",
        ),
        (
            "https://gateway.ai.cloudflare.com/v1/account/gateway/openai",
            "https://gateway.ai.cloudflare.com/v1/account/gateway/openai/chat/completions",
        ),
        (
            "https://models.github.ai/inference/chat/completions",
            "https://models.github.ai/inference/chat/completions",
        ),
        (
            "https://api.perplexity.ai/chat/completions",
            "https://api.perplexity.ai/chat/completions",
        ),
        (
            "https://x.openai.azure.com/openai/v1/",
            "https://x.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            f"https://x.openai.azure.com{DEPLOYMENT}?api-version=2024-10-21",
            f"https://x.openai.azure.com{DEPLOYMENT}/chat/completions?api-version=2024-10-21",
        ),
        (
            f"https://x.openai.azure.com{DEPLOYMENT}/chat/completions?api-version=2024-10-21",
            f"https://x.openai.azure.com{DEPLOYMENT}/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://x.services.ai.azure.com/models?api-version=2024-05-01-preview",
            "https://x.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
        ),
        ("http://gw/team-a", "http://gw/team-a/v1/chat/completions"),
        ("http://gw/team-a/v1", "http://gw/team-a/v1/chat/completions"),
        ("http://gw/team-a?tenant=7", "http://gw/team-a/v1/chat/completions?tenant=7"),
        ("http://gw/models/llama-v2", "http://gw/models/llama-v2/v1/chat/completions"),
    ],
)
def test_the_url_that_an_sdk_is_given_leads_to_the_same_place(base: str, url: str) -> None:
    assert asked(base) == url
    assert asked(HTTPInferenceClientConfig(base).base_url) == url


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h/v1/chat/completions", "/v1/embeddings", "http://h/v1/embeddings"),
        ("http://h/v1", "/rerank", "http://h/rerank"),
        ("http://h/v1", "/v2/rerank", "http://h/v2/rerank"),
        ("http://h/api/v3", "/v1/embeddings", "http://h/api/v3/embeddings"),
        ("http://h/api/v3", "/score", "http://h/api/v3/score"),
        ("http://h/inference/chat/completions", "/v1/embeddings", "http://h/inference/embeddings"),
    ],
)
def test_other_endpoints_are_found_beside_it(base: str, path: str, url: str) -> None:
    assert asked(base, path) == url


@pytest.mark.parametrize(
    "base",
    [
        "", "http://", "http:/h", "http:h:8000", "ftp://h", "simulater", "h:port", "http://h:99999",
        "http://h/a b", "http://h/v1#part", "http://h/?q=a b", "http://müller/v1", "/v1", "://h",
        "http//h", "https//h.example:8000/v1", "//h:8000",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_by_name(base: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HTTPInferenceClientConfig(base)
    assert caught.value.field == "base_url"


@pytest.mark.parametrize(
    "base",
    [
        "http://user:hidden@h", "user:hidden@h:8000", "https://h/v1?key=hidden",
        "https://h?subscription-key=hidden", "https://h?api-version=1&access_token=hidden",
        "https://h/api?code=hidden", "https://h/v1?sig=hidden",
    ],
)  # fmt: skip
def test_a_url_with_a_credential_is_refused_without_showing_it(base: str) -> None:
    with pytest.raises(ConfigError, match="credential") as caught:
        HTTPInferenceClientConfig(base)
    assert "hidden" not in str(caught.value)


SEGMENTS = st.sampled_from(
    ["v1", "v2", "v1beta", "V3", "openai", "api", "team-a", "chat", "completions", "models", ""]
)
QUERIES = st.sampled_from(["", "?", "?api-version=1", "?a=b"])


@given(st.lists(SEGMENTS, max_size=6), QUERIES)
def test_the_spelling_that_is_kept_leads_where_the_one_given_did(
    segments: list[str], query: str
) -> None:
    written = "/".join(["http://h", *segments]) + query
    kept = checked_base_url(written)
    assert checked_base_url(kept) == kept
    api = ApiPath.of(urlsplit(kept))
    assert api.target(CHAT).partition("?")[0].endswith("/chat/completions")
    # An endpoint that was written out is not written twice.
    path = urlsplit(written).path.rstrip("/")
    if path.endswith("/chat/completions") and not path.endswith("/v1/chat/completions"):
        assert api.target(CHAT).partition("?")[0] == path


@pytest.mark.anyio
async def test_a_query_goes_out_with_every_request() -> None:
    lines: list[str] = []

    async def script(peer: Peer) -> None:
        while True:
            lines.append((await peer.request()).line)
            peer.send(answer(ANSWER))

    async with serving(script) as server:
        base = f"{server.base_url}{DEPLOYMENT}?api-version=2024-10-21"
        config = HTTPInferenceClientConfig(base, retry=None)  # pyright: ignore
        async with HTTPInferenceClient(config) as client:
            await client.generate(BATCH)
            await client.generate(BATCH)
    wanted = f"POST {DEPLOYMENT}/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert lines == [wanted, wanted]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_path_that_is_not_there_is_named_in_full(status: int, streamed: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b'{"detail": "Not Found"}', status=b"%d What" % status))

    async with serving(script) as server:
        base = f"{server.base_url}/api/v3?region=eu"
        config = HTTPInferenceClientConfig(base, retry=None, stream_upstream=streamed)
        async with HTTPInferenceClient(config) as client:
            with pytest.raises(UnknownStatusError) as caught:
                await client.generate(BATCH)
    asked_for = f"{server.base_url}/api/v3/chat/completions?region=eu"
    assert str(caught.value) == f"HTTP {status}: Not Found; asked for {asked_for}"
