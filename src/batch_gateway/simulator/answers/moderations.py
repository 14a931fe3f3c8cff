"""`/v1/moderations`: everything is harmless here."""

from __future__ import annotations

import msgspec

from batch_gateway.simulator.answers.answer import Answer, Call, read_body, refuse
from batch_gateway.simulator.answers.words import count_tokens, fraction

__all__ = ["ModerationAnswer"]

_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


class _Body(msgspec.Struct):
    input: str | list[msgspec.Raw]
    model: str = "omni-moderation-latest"


_decoder = msgspec.json.Decoder(_Body)


class ModerationAnswer(Answer):
    """The answer to one moderation request."""

    def __init__(self, call: Call) -> None:
        request = read_body(_decoder, call.body)
        self.model = request.model
        given = request.input
        if not isinstance(given, str) and not given:
            refuse("Invalid 'input': empty array.", param="input", code="empty_array")
        texts = [given.encode()] if isinstance(given, str) else [bytes(raw) for raw in given]
        self.prompt_tokens = sum(max(1, count_tokens(text)) for text in texts)
        # Objects are the text and image parts of one input; strings are inputs of their own.
        multimodal = texts[0].startswith(b"{")
        self._inputs = [b"".join(texts)] if multimodal else texts
        self._id = f"modr-{call.digest.hex()}"

    def body(self) -> bytes:
        results = [_result(text) for text in self._inputs]
        return msgspec.json.encode({"id": self._id, "model": self.model, "results": results})


def _result(text: bytes) -> dict[str, object]:
    return {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": {
            name: round(fraction(text + name.encode()) * 1e-3, 6) for name in _CATEGORIES
        },
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
