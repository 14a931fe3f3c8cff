"""Prompts that begin alike are read once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.simulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from batch_gateway.testing import simulated_gateway

from .asking import ask, get

BLOCK = BLOCK_TOKENS * 4


@given(st.lists(st.binary(max_size=6), max_size=12))
def test_never_saves_more_than_what_earlier_prompts_share(parts: list[bytes]) -> None:
    cache = PrefixCache()
    prompts = [b"".join(piece * BLOCK for piece in parts[:n]) for n in range(len(parts) + 1)]
    seen: list[bytes] = []
    for prompt in prompts:
        saved = cache.look_up(prompt, capacity_tokens=10**9)
        longest = max((common(prompt, old) for old in seen), default=0)
        assert saved * 4 <= longest
        assert saved * 4 < len(prompt) or saved == 0
        assert saved * 4 > min(longest, len(prompt) - 1) - BLOCK
        seen.append(prompt)


def common(one: bytes, other: bytes) -> int:
    size = 0
    while size < min(len(one), len(other)) and one[size] == other[size]:
        size += 1
    return size


def test_forgets_what_was_not_used_for_long() -> None:
    cache = PrefixCache()
    capacity = 3 * BLOCK_TOKENS
    first, second = b"a" * BLOCK * 2, b"b" * BLOCK * 2
    cache.look_up(first, capacity)
    cache.look_up(second, capacity)
    # Of the first prompt only the first block is left.
    assert cache.look_up(first + b"x" * BLOCK, capacity) == BLOCK_TOKENS


def test_a_shared_system_prompt_shows_as_cached_tokens() -> None:
    system = {"role": "system", "content": "You are helpful. " * 40}
    with simulated_gateway(prefix_cache_tokens=10_000) as gateway:
        cached = []
        for question in ("One?", "Two?"):
            body = {"model": "tiny", "messages": [system, {"role": "user", "content": question}]}
            usage = ask(gateway.url, body=body).json()["usage"]
            cached.append(usage["prompt_tokens_details"]["cached_tokens"])
        assert cached[0] == 0
        assert 150 <= cached[1] < usage["prompt_tokens"]
        assert f"\nvllm:prefix_cache_hits_total {cached[1]}\n" in (
            get(gateway.url, "/metrics").body.decode()
        )
