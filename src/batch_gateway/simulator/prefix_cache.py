"""Which leading part of a prompt is in the engine's cache: blocks of bytes, hashed in a chain."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

__all__ = ["BLOCK_TOKENS", "PrefixCache"]

BLOCK_TOKENS = 16
"""vLLM's block size. A block is reused only with everything before it."""

_BLOCK_BYTES = BLOCK_TOKENS * 4


class PrefixCache:
    """Remembers the blocks of recent prompts, the least recently used of which it forgets.

    As vLLM's: https://docs.vllm.ai/en/latest/design/prefix_caching.html
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[bytes, None] = OrderedDict()
        self.queried_tokens = 0
        self.hit_tokens = 0

    def look_up(self, prompt: bytes, capacity_tokens: int) -> int:
        """How many leading tokens of `prompt` were there; afterwards all of its blocks are.

        The last block always has to be read, since its last token gives the first new one.
        """
        keys = _chain(prompt)
        hits = 0
        while hits < len(keys) and keys[hits] in self._blocks:
            hits += 1
        for key in reversed(keys):
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) * BLOCK_TOKENS > capacity_tokens:
            self._blocks.popitem(last=False)
        usable = hits - 1 if hits and hits * _BLOCK_BYTES >= len(prompt) else hits
        self.queried_tokens += -(-len(prompt) // 4)
        self.hit_tokens += usable * BLOCK_TOKENS
        return usable * BLOCK_TOKENS


def _chain(prompt: bytes) -> list[bytes]:
    """One key a whole block, which depends on all the bytes up to its end."""
    running = hashlib.blake2b(digest_size=16)
    keys: list[bytes] = []
    for start in range(0, len(prompt) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        running.update(prompt[start : start + _BLOCK_BYTES])
        keys.append(running.copy().digest())
    return keys
