"""What every endpoint's answer offers, and how request bodies are read."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, NoReturn, Protocol, TypeVar

import msgspec

from batch_gateway.simulator.answers.replies import RequestError, openai_error
from batch_gateway.simulator.answers.words import fraction, words_for

__all__ = [
    "Answer",
    "AnswerConfig",
    "Call",
    "Generation",
    "OutputDistribution",
    "generate",
    "read_body",
    "refuse",
]

_Body = TypeVar("_Body")


OutputDistribution = Literal["fixed", "uniform", "geometric"]


class AnswerConfig(Protocol):
    """What can be set about answers; see `SimulatorConfig`."""

    @property
    def output_tokens(self) -> int: ...
    @property
    def output_distribution(self) -> OutputDistribution: ...
    @property
    def default_max_tokens(self) -> int: ...
    @property
    def embedding_dimensions(self) -> int: ...


class Call(NamedTuple):
    """A request body and what its answer depends on besides."""

    body: bytes
    config: AnswerConfig
    created: int

    @property
    def digest(self) -> bytes:
        """16 bytes that depend only on the body, and not on whether it asks for a stream."""
        return hashlib.blake2b(_unstreamed(self.body), digest_size=16).digest()


def _unstreamed(body: bytes) -> bytes:
    if b'"stream"' not in body:
        return body
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return body
    kept = {name: raw for name, raw in fields.items() if name not in _STREAM_FIELDS}
    return msgspec.json.encode(kept)


_STREAM_FIELDS = frozenset({"stream", "stream_options"})


class Answer(ABC):
    """The answer to one request, known before a single token of it has been paced.

    Attributes:
        model: as the request named it.
        prompt_tokens: of all its prompts.
        cached_tokens: of these, what the prefix cache saves; set before the answer is made.
        output_tokens: of the longest sequence; 0 where nothing is generated.
        width: sequences that run side by side for it.
        stream: whether events were asked for instead of one body.
    """

    model: str
    prompt_tokens: int
    cached_tokens: int = 0
    output_tokens: int = 0
    width: int = 1
    stream: bool = False

    @abstractmethod
    def body(self) -> bytes:
        """The whole JSON answer."""

    def prompt(self) -> bytes:
        """What a prefix cache sees of it; nothing where there is none to share."""
        return b""

    def opening(self) -> list[bytes]:
        """Events before the first token."""
        return []

    def tokens(self, start: int, stop: int) -> list[bytes]:
        """Events for the tokens from `start` up to `stop`, of every sequence."""
        raise NotImplementedError

    def closing(self) -> list[bytes]:
        """Events after the last token; the very last one says that the stream is complete."""
        return []


class Generation(NamedTuple):
    """One generated sequence."""

    words: list[str]
    finish_reason: str

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def piece(self, index: int) -> str:
        """The text that token `index` adds."""
        return self.words[index] if index == 0 else " " + self.words[index]


class Limits(NamedTuple):
    """How long an answer may be: `max_tokens`, and vLLM's `min_tokens` and `ignore_eos`."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False


def generate(call: Call, limits: Limits, choices: int = 1) -> list[Generation]:
    """The sequences that answer a request, each with its own text and length."""
    digest = call.digest
    return [_generate_one(call.config, digest + bytes([i % 256]), limits) for i in range(choices)]


def _generate_one(config: AnswerConfig, seed: bytes, limits: Limits) -> Generation:
    length = _length(config, seed) if not limits.ignore_eos else limits.max_tokens
    length = max(length, limits.min_tokens)
    reason = "length" if length > limits.max_tokens or limits.ignore_eos else "stop"
    return Generation(words_for(seed, min(length, limits.max_tokens)), reason)


def _length(config: AnswerConfig, seed: bytes) -> int:
    mean = config.output_tokens
    if config.output_distribution == "fixed":
        return mean
    draw = fraction(seed)
    if config.output_distribution == "uniform":
        return max(1, round(mean * (0.5 + draw)))
    if mean == 1:
        return 1
    return max(1, math.ceil(math.log1p(-draw) / math.log1p(-1 / mean)))


def read_body(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """Decode a request body. Raises RequestError: 400 that says what is wrong and where."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        refuse(str(error), param=_param(str(error)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse(f"We could not parse the JSON body of your request: {error}")


def refuse(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> NoReturn:
    """Raise RequestError with an OpenAI error body."""
    raise RequestError(openai_error(status, message, param=param, code=code))


def _param(message: str) -> str | None:
    # "Expected `int`, got `str` - at `$.max_tokens`" and "... missing required field `model`"
    if "- at `$." in message:
        return message.rpartition("- at `$.")[2].rstrip("`")
    if "missing required field `" in message:
        return message.rpartition("missing required field `")[2].partition("`")[0]
    return None
