"""`/v1/embeddings`: unit vectors that depend only on the text."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any, Literal

import msgspec

from batch_gateway.simulator.answers.answer import Answer, Call, read_body, refuse
from batch_gateway.simulator.answers.completions import Prompt, prompt_sizes

__all__ = ["EmbeddingAnswer"]

_MAX_DIMENSIONS = 8192


class _Body(msgspec.Struct):
    model: str
    input: Prompt
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


_decoder = msgspec.json.Decoder(_Body)


class EmbeddingAnswer(Answer):
    """The answer to one embedding request."""

    def __init__(self, call: Call) -> None:
        request = read_body(_decoder, call.body)
        self.model = request.model
        self.prompt_tokens = sum(prompt_sizes(request.input, "input"))
        self._dimensions = request.dimensions or call.config.embedding_dimensions
        if not 1 <= self._dimensions <= _MAX_DIMENSIONS:
            refuse(f"Invalid 'dimensions': not in 1 to {_MAX_DIMENSIONS}.", param="dimensions")
        self._base64 = request.encoding_format == "base64"
        self._inputs = _inputs(request.input)

    def body(self) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": self._vector(text)}
            for index, text in enumerate(self._inputs)
        ]
        usage = {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens}
        return msgspec.json.encode(
            {"object": "list", "data": data, "model": self.model, "usage": usage}
        )

    def _vector(self, text: bytes) -> Any:
        raw = hashlib.shake_128(self.model.encode() + b"\0" + text).digest(2 * self._dimensions)
        numbers = [n - 32_767.5 for n in struct.unpack(f"<{self._dimensions}H", raw)]
        length = math.sqrt(sum(n * n for n in numbers))
        vector = [n / length for n in numbers]
        if not self._base64:
            return vector
        return base64.b64encode(struct.pack(f"<{self._dimensions}f", *vector)).decode()


def _inputs(value: Prompt) -> list[bytes]:
    if isinstance(value, str):
        return [value.encode()]
    if all(isinstance(item, int) for item in value):
        return [repr(value).encode()]
    return [item.encode() if isinstance(item, str) else repr(item).encode() for item in value]
