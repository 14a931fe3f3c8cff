"""Which pod has read which prompts before, as far as a picker can know: by what it sent them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["PrefixIndex", "block_keys"]

_BLOCK_BYTES = 64
_MAX_BLOCKS = 256


def block_keys(model: str, prompt: bytes) -> tuple[bytes, ...]:
    """A key for each whole block of the prompt, which depends on all the bytes up to its end.

    The inference extension's block size (64 characters) and its limit of 256 blocks.
    """
    running = hashlib.blake2b(model.encode(), digest_size=16)
    keys: list[bytes] = []
    last = min(len(prompt), _MAX_BLOCKS * _BLOCK_BYTES) - _BLOCK_BYTES
    for start in range(0, last + 1, _BLOCK_BYTES):
        running.update(prompt[start : start + _BLOCK_BYTES])
        keys.append(running.copy().digest())
    return tuple(keys)


class PrefixIndex:
    """The blocks that each pod was sent, the least recently used of which are forgotten.

    Args:
        capacity: blocks remembered for one pod; the inference extension's default.
    """

    def __init__(self, capacity: int = 31_250) -> None:
        self._capacity = capacity
        self._by_pod: dict[str, OrderedDict[bytes, None]] = {}

    def known_share(self, address: str, keys: Sequence[bytes]) -> float:
        """How much of a prompt's blocks, from its start, the pod was sent before; 0 to 1."""
        blocks = self._by_pod.get(address)
        if not blocks or not keys:
            return 0.0
        known = 0
        while known < len(keys) and keys[known] in blocks:
            known += 1
        return known / len(keys)

    def sent(self, address: str, keys: Sequence[bytes]) -> None:
        """The pod is sent a prompt of these blocks."""
        blocks = self._by_pod.setdefault(address, OrderedDict())
        # Backwards, so that the end of a prompt is forgotten before its beginning.
        for key in reversed(keys):
            blocks[key] = None
            blocks.move_to_end(key)
        while len(blocks) > self._capacity:
            blocks.popitem(last=False)

    def forget(self, address: str) -> None:
        """The pod is gone."""
        self._by_pod.pop(address, None)
