"""`/v1/completions`: one prompt or many, whole or as chunks."""

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
from batch_gateway.simulator.answers.answer_events import DONE, data_event
from batch_gateway.simulator.answers.chat import MAX_CHOICES, StreamOptions
from batch_gateway.simulator.answers.token_usage import completion_usage
from batch_gateway.simulator.answers.words import count_tokens

__all__ = ["CompletionAnswer", "prompt_sizes"]

# What OpenAI and vLLM give a completion that names no limit.
_DEFAULT_MAX_TOKENS = 16

Prompt = str | list[str | int | list[int]]


class _Body(msgspec.Struct):
    model: str
    prompt: Prompt
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    n: int | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


_decoder = msgspec.json.Decoder(_Body)


def prompt_sizes(prompt: Prompt, name: str) -> list[int]:
    """Tokens of every prompt in text, a list of texts, token ids, or lists of token ids."""
    if isinstance(prompt, str):
        return [max(1, count_tokens(prompt))]
    if not prompt:
        refuse(f"Invalid '{name}': empty array.", param=name, code="empty_array")
    if all(isinstance(item, int) for item in prompt):
        return [len(prompt)]
    if all(isinstance(item, str) for item in prompt):
        return [max(1, count_tokens(item)) for item in prompt if isinstance(item, str)]
    if not all(isinstance(item, list) and item for item in prompt):
        refuse(f"Invalid '{name}': mixes texts and token ids.", param=name)
    return [len(item) for item in prompt if isinstance(item, list)]


def _calls(call: Call, prompt: Prompt) -> list[Call]:
    """Each prompt of a list as a request of its own: its neighbours do not change its answer."""
    if isinstance(prompt, str) or all(isinstance(item, int) for item in prompt):
        return [call]
    fields = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    return [call._replace(body=msgspec.json.encode({**fields, "prompt": item})) for item in prompt]


class CompletionAnswer(Answer):
    """The answer to one completion request."""

    def __init__(self, call: Call) -> None:
        request = read_body(_decoder, call.body)
        prompts = prompt_sizes(request.prompt, "prompt")
        self.model = request.model
        self.width = len(prompts) * (request.n or 1)
        self._check(request)
        self.stream = bool(request.stream)
        self.prompt_tokens = sum(prompts)
        self._include_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._created = call.created
        self._id = f"cmpl-{call.digest.hex()}"
        limit = request.max_tokens or _DEFAULT_MAX_TOKENS
        limits = Limits(limit, request.min_tokens, request.ignore_eos)
        self._choices = [
            choice
            for alone in _calls(call, request.prompt)
            for choice in generate(alone, limits, request.n or 1)
        ]
        self._echo = request.prompt if request.echo and isinstance(request.prompt, str) else ""
        self.output_tokens = max(len(choice.words) for choice in self._choices)
        self._prompt = request.prompt if isinstance(request.prompt, str) else ""

    def prompt(self) -> bytes:
        return self._prompt.encode()

    def _check(self, request: _Body) -> None:
        for name in ("max_tokens", "n"):
            value = getattr(request, name)
            if value is not None and value < 1:
                refuse(f"Invalid '{name}': expected at least 1, got {value}.", param=name)
        if not 1 <= self.width <= MAX_CHOICES:
            refuse(f"Invalid 'n': more than {MAX_CHOICES} sequences in one request.", param="n")

    def body(self) -> bytes:
        choices = [
            _choice(i, self._echo + choice.text, choice.finish_reason)
            for i, choice in enumerate(self._choices)
        ]
        return msgspec.json.encode(self._frame(choices) | {"usage": self._usage()})

    def _usage(self) -> dict[str, Any]:
        generated = sum(len(choice.words) for choice in self._choices)
        return completion_usage(self.prompt_tokens, generated, self.cached_tokens)

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": "fp_simulator",
        }

    def opening(self) -> list[bytes]:
        return [self._chunk([_choice(0, self._echo, None)])] if self._echo else []

    def tokens(self, start: int, stop: int) -> list[bytes]:
        return [
            self._chunk([_choice(i, choice.piece(token), None)])
            for token in range(start, stop)
            for i, choice in enumerate(self._choices)
            if token < len(choice.words)
        ]

    def closing(self) -> list[bytes]:
        events = [
            self._chunk([_choice(i, "", c.finish_reason)]) for i, c in enumerate(self._choices)
        ]
        if self._include_usage:
            events.append(self._chunk([], self._usage()))
        return [*events, DONE]

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        frame = self._frame(choices)
        return data_event(frame | {"usage": usage} if self._include_usage else frame)


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
