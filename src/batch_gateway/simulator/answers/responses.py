"""`/v1/responses`: one message, whole or as the event stream of that API."""

from __future__ import annotations

from typing import Any

import msgspec

from batch_gateway.simulator.answers.answer import (
    Answer,
    Call,
    Limits,
    generate,
    read_body,
    refuse,
)
from batch_gateway.simulator.answers.answer_events import named_event
from batch_gateway.simulator.answers.token_usage import responses_usage
from batch_gateway.simulator.answers.words import count_tokens

__all__ = ["ResponsesAnswer"]


class _Body(msgspec.Struct):
    model: str
    input: str | list[msgspec.Raw]
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_Body)


class ResponsesAnswer(Answer):
    """The answer to one responses request."""

    def __init__(self, call: Call) -> None:
        request = read_body(_decoder, call.body)
        given = request.input
        if not given:
            refuse("Invalid 'input': it is empty.", param="input")
        limit = request.max_output_tokens
        if limit is not None and limit < 1:
            refuse("Invalid 'max_output_tokens': less than 1.", param="max_output_tokens")
        self.model = request.model
        self.stream = bool(request.stream)
        sizes = [len(given)] if isinstance(given, str) else [len(bytes(raw)) for raw in given]
        sizes.append(len(request.instructions or ""))
        self.prompt_tokens = sum(count_tokens(b" " * size) for size in sizes)
        self._request = request
        self._created = call.created
        self._digest = call.digest.hex()
        self._text = generate(call, Limits(limit or call.config.default_max_tokens))[0]
        self.output_tokens = len(self._text.words)
        self._sequence = 0

    def prompt(self) -> bytes:
        given = self._request.input
        texts = [given.encode()] if isinstance(given, str) else [bytes(raw) for raw in given]
        return b"\n".join([(self._request.instructions or "").encode(), *texts])

    def body(self) -> bytes:
        return msgspec.json.encode(self._finished())

    # -- objects ---------------------------------------------------------------------------

    def _finished(self) -> dict[str, Any]:
        cut = self._text.finish_reason == "length"
        return self._response(
            "incomplete" if cut else "completed",
            [self._item("incomplete" if cut else "completed", self._text.text)],
            responses_usage(self.prompt_tokens, self.output_tokens, self.cached_tokens),
        ) | {"incomplete_details": {"reason": "max_output_tokens"} if cut else None}

    def _response(
        self, status: str, output: list[Any], usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {
            "id": f"resp_{self._digest}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self._request.instructions,
            "max_output_tokens": self._request.max_output_tokens,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage,
            "metadata": self._request.metadata or {},
        }

    def _item(self, status: str, text: str | None) -> dict[str, Any]:
        content = [] if text is None else [_part(text)]
        return {
            "type": "message",
            "id": self._item_id,
            "status": status,
            "role": "assistant",
            "content": content,
        }

    @property
    def _item_id(self) -> str:
        return f"msg_{self._digest}"

    # -- events ----------------------------------------------------------------------------

    def opening(self) -> list[bytes]:
        started = {"response": self._response("in_progress", [], None)}
        item = {"output_index": 0, "item": self._item("in_progress", None)}
        return [
            self._event("response.created", started),
            self._event("response.in_progress", started),
            self._event("response.output_item.added", item),
            self._event("response.content_part.added", self._where() | {"part": _part("")}),
        ]

    def tokens(self, start: int, stop: int) -> list[bytes]:
        return [
            self._event(
                "response.output_text.delta",
                self._where() | {"delta": self._text.piece(token), "logprobs": []},
            )
            for token in range(start, min(stop, self.output_tokens))
        ]

    def closing(self) -> list[bytes]:
        text = self._text.text
        finished = self._finished()
        item = {"output_index": 0, "item": finished["output"][0]}
        return [
            self._event(
                "response.output_text.done", self._where() | {"text": text, "logprobs": []}
            ),
            self._event("response.content_part.done", self._where() | {"part": _part(text)}),
            self._event("response.output_item.done", item),
            self._event(f"response.{finished['status']}", {"response": finished}),
        ]

    def _where(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        event = {"type": name, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return named_event(name, event)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
