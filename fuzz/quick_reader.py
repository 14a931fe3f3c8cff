"""Fuzzing of the quick way to read streamed answers, beside the general one.

    python -m fuzz.targets --seconds 300 quick_reader

An input is a recipe: its bytes choose, one after another, the endpoint, how the stream is cut, and
what each event says, so that most events repeat the one before and some are odd in all the ways
that servers have. Such a stream is read by itself, and behind the beginning of an answer whose form
is known. Both readers must give the same chunks and the same answer or error. A finding is written
to `crash-…` in the working directory: make it a seed in `fuzz/seeds/quick_reader`, under
a name that says what it is, and the tests will check it from then on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from batch_gateway.client.streaming.answer_form import AnswerForm
from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.client.streaming.quick_reader import QuickReader
from batch_gateway.errors import InferenceError
from batch_gateway.wire.chunks import Chunk
from fuzz.engine import run

__all__ = [
    "DELTAS",
    "OTHERS",
    "SEEDS",
    "TEXTS",
    "WORDS",
    "Recipe",
    "check",
    "form_of",
    "seen",
    "stream",
]

SEEDS = Path(__file__).parent / "seeds" / "quick_reader"

_CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_ENDPOINTS = (_CHAT, _CHAT, _CHAT, _COMPLETIONS, "/v1/responses")
_LIMITS = ((10**6, 10**6), (10**6, 200), (1500, 10**6), (10**6, 10**6))
# As they stand in the JSON, right and wrong.
TEXTS = (
    *(b" word", b"a", b"", b"\\n", b'\\"', b"\\\\", b"\\/", b"\\t tab", b"probe", b"0", b"m"),
    *(b"\\u00e9", b"\\ud83d", b"\\ude00", b"\\ud83d\\ude00", b"\\u0000", b"\\u005c"),
    *(
        "é".encode(),
        "日本語".encode(),
        "😀".encode(),
        "\u2028".encode(),
        b"\x7f",
        "\u3000".encode(),
    ),
    *(b"\xff", b"\xc3", b"\x01", b"\t", b"\\x", b"\\", b"\\u12", b'"', b'","x":"y', b"{" * 30),
    *(b"data: x", b"[DONE]", b'\\"},\\"', b"x" * 300, b"y" * 900, b'"}}]}\n\ndata: {', b"null"),
)
_FRAMES = (
    b'"id":"1","object":"chat.completion.chunk","created":1,"model":"m",',
    b'"id": "1", "object": "text_completion", "model": "m", "system_fingerprint": null, ',
    b'"id":"1","usage":null,',
    b'"id":"1","created":1e999,"model":"m","more":{"a":[1]},',
    b"",
)
DELTAS = (
    b'"delta":{"content":"%b"}',
    b'"text":"%b"',
    b'"delta":{"content":"%b"}',
    b'"text":"%b"',
    b'"delta":{"role":"assistant","content":"%b"}',
    b'"delta":{"role":"","content":"%b","tool_calls":[]}',
    b'"delta":{"content":null,"reasoning_content":"%b"}',
    b'"delta":{"content":"","reasoning":"%b"}',
    b'"delta":{"refusal":"%b"}',
    b'"delta":{"name":"%b"}',
    b'"delta":{"thing":"%b"}',
    b'"delta":{"content":"%b","reasoning":"%b"}',
    b'"delta":{"content":"%b","content":"last"}',
    b'"delta":{"content":[{"type":"text","text":"%b"}]}',
    b'"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%b"}}]}',
    b'"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":'
    b'{"name":"f","arguments":"%b"}}]}',
    b'"delta":{"tool_calls":[{"index":1,"id":"%b","function":{"name":"g","arguments":""}}]}',
    b'"delta":{"tool_calls":[{"function":{"arguments":"%b"}}]}',
    b'"message":{"content":"%b"}',
    b'"delta":{"audio":{"data":"%b"}}',
    b'"delta":{"details":[{"index":0,"text":"%b"}]}',
)
_CHOICES = (
    b'{"index":0,%b}',
    b'{"index":0,%b,"logprobs":null,"finish_reason":null}',
    b'{"index":0,%b,"finish_reason":""}',
    b'{"index":0,%b,"logprobs":{"content":[{"token":"a","logprob":-1}]}}',
    b'{"index":0,%b,"finish_reason":"stop"}',
    b'{"index":1,%b,"finish_reason":null}',
    b'{%b,"stop_reason":null,"token_ids":null}',
    b'{"index":0,%b},{"index":1,%b}',
    b'{"index":"0",%b}',
    b'{"index":0,%b,"filter":{"a":1},"list":[1]}',
)
OTHERS = (
    b": ping\n\n",
    b"data: [DONE]\n\n",
    b"\n",
    b"\r\n",
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
    b'data: {"error":{"message":"m","code":429}}\n\n',
    b"event: error\ndata: x\n\n",
    b"event: ping\ndata: {}\n\n",
    b"data: null\n\n",
    b"data: {broken\n\n",
    b"id: 1\n",
    b"event: message\n",
    b"event: response.output_text.delta\n",
    b"event: ping\n",
    b'data: {"type":"response.output_text.delta","delta":"a","output_index":0}\n\n',
    b'data: {"type":"response.completed","response":{"output":[],"status":"completed"}}\n\n',
)
# So that most streams make an answer, in which all shows that an event has done.
_LAST = (
    b'data: {"choices":[{"index":0,"text":"","delta":{},"finish_reason":"stop"},'
    b'{"index":1,"text":"","delta":{},"finish_reason":"stop"}]}\n\n'
)
_LASTS = (*[_LAST + b"data: [DONE]\n\n"] * 5, _LAST, b"")
_LAST_WORD = b"data: [DONE]\n\n"
_LONG = max(range(len(TEXTS)), key=lambda place: len(TEXTS[place]))
_NEW_EVENT, _SEVERAL = len(OTHERS), 47
_FIELDS = (b"data: ", b"data: ", b"data:", b"data: \t", b"data: data: ", b"\xef\xbb\xbfdata: ")
_ENDS = (
    b"\n\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\n",
    b"\r\r",
    b"\n\n\n",
    b" \n\n",
    b"\n\r\n",
    b"\nid: 1\n\n",
)

# Events of each kind, several in a row, so that one may be taken for a repetition of the other.
WORDS = tuple(
    "".join(map(chr, (_NEW_EVENT, choice, delta, frame, 0, 0, _SEVERAL, *texts)))
    for choice in range(len(_CHOICES))
    for delta in range(len(DELTAS))
    for frame in range(len(_FRAMES))
    for texts in ((0, 1, 4, 1, 0, 3, 9), (0, _LONG, 1, 11, _LONG, 18, 0))
)

Seen = tuple[list[Any], bytes | tuple[type[InferenceError], str, bool, str], int, bool, int]


class Recipe:
    """Chooses by one byte after the other, and the first of all when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)
        self.is_over = not data

    def next(self) -> int:
        byte = next(self._bytes, None)
        self.is_over = byte is None
        return byte or 0

    def one(self, of: tuple[Any, ...]) -> Any:
        return of[self.next() % len(of)]


def _event(recipe: Recipe) -> tuple[Callable[[bytes], bytes], list[bytes]]:
    """An event for any text, and a whole answer of such, without its last word."""
    choice, delta = recipe.one(_CHOICES), recipe.one(DELTAS)
    frame, field, end = recipe.one(_FRAMES), recipe.one(_FIELDS), recipe.one(_ENDS)

    def with_text(text: bytes) -> bytes:
        said = delta.replace(b"%b", text)
        return field + b"{" + frame + b'"choices":[' + choice.replace(b"%b", said) + b"]}" + end

    reason = b"data: {" + frame + b'"choices":[{"index":0,"delta":{},"finish_reason":"length"}]'
    usage = b"data: {" + frame + b'"choices":[],"usage":{"in":0,"more":{"out":7},"all":8}}' + end
    texts = [with_text(text) for text in (b"", b" one", b" two", b"\\n", b" three")]
    return with_text, [*texts, reason + b"}" + end, usage]


def stream(data: bytes) -> tuple[str, tuple[int, int], int, bytes, list[bytes]]:
    """The endpoint, the limits, how many bytes come at a time (0: all), the bytes, and the events
    of a plain answer that is like their beginning."""
    recipe = Recipe(data)
    endpoint, limits, step = recipe.one(_ENDPOINTS), recipe.one(_LIMITS), recipe.next()
    # Pieces of less than an event, and of several.
    step = step if step < 128 else 16 * (step - 127)
    last = recipe.one(_LASTS)
    said, plain = _event(recipe)
    wire: list[bytes] = []
    while not recipe.is_over:
        what = recipe.next()
        if what < len(OTHERS):
            wire.append(OTHERS[what])
        elif what < _SEVERAL:
            said, _ = _event(recipe)
        elif what < 2 * _SEVERAL:
            wire += [said(recipe.one(TEXTS)) for _ in range(what % 8)]
        else:
            wire.append(said(recipe.one(TEXTS)))
    return endpoint, limits, step, b"".join([*wire, last]), plain


def _pieces(wire: bytes, step: int) -> Iterator[bytes]:
    size = step or max(1, len(wire))
    return (wire[start : start + size] for start in range(0, len(wire), size))


def seen(chunk: Chunk) -> Any:
    fields = {name: getattr(chunk, name) for name in chunk.__struct_fields__ if name != "_raw"}
    return type(chunk), repr(fields), repr(chunk.raw), chunk.text


def _outcome(
    reader: AnswerReader | QuickReader, read: Callable[[bytes], None], parts: Iterable[bytes]
) -> Any:
    try:
        for part in parts:
            read(part)
            if reader.complete:
                break
        for _ in reader.end():
            pass
        return reader.finish()
    except InferenceError as error:
        return type(error), error.message, error.is_retryable, error.code


def generally(endpoint: str, limits: tuple[int, int], parts: Iterable[bytes], typed: bool) -> Seen:
    """What the general way makes of a stream, whether somebody wants the chunks or not."""
    reader, chunks = AnswerReader(endpoint, *limits), list[Any]()

    def read(part: bytes) -> None:
        for value in reader.feed(part):
            if typed:
                chunks.append(seen(reader.typed(value)))

    outcome = _outcome(reader, read, parts)
    return chunks, outcome, reader.chunks, reader.generated, reader.ended_choices


def quickly(quick: QuickReader, parts: Iterable[bytes], typed: bool) -> Seen:
    """The same of the quick way."""
    chunks = list[Any]()

    def put(more: Iterable[Chunk], _: int) -> None:
        chunks.extend(map(seen, more))

    def read(part: bytes) -> None:
        wanted = put if typed else None
        # As it is done with what comes while nobody waits.
        taken = quick.ready.take(part, wanted) if quick.ready else 0
        quick.take(part[taken:], wanted)

    outcome = _outcome(quick, read, parts)
    return chunks, outcome, quick.chunks, quick.generated, quick.ended_choices


@lru_cache(maxsize=10_000)
def form_of(endpoint: str, limits: tuple[int, int], *parts: bytes) -> AnswerForm | None:
    """What may be learnt of a stream."""
    quick = QuickReader(endpoint, *limits, is_lesson=True)
    try:
        for part in parts:
            quick.take(part, None)
        return quick.form(quick.finish())
    except InferenceError:
        return None


def check(data: bytes) -> None:
    """Fail where the quick way and the general one differ in anything."""
    endpoint, limits, step, wire, plain = stream(data)
    form = form_of(endpoint, limits, *plain, _LAST_WORD)
    # Another answer of that form, and one that leaves it after a while.
    named = [one.replace(b'"1"', b'"id-22"').replace(b":1,", b":23,") for one in plain]
    streams = [[wire], [*named, _LAST_WORD], [b"".join(plain[:-2]) + wire], [*named[:-1], wire]]
    for parts in streams:
        whole = b"".join(parts)
        for cut, typed in itertools.product((parts, [*_pieces(whole, step)]), (True, False)):
            general = generally(endpoint, limits, cut, typed)
            for by in {id(form): form, id(None): None}.values():
                quick = quickly(QuickReader(endpoint, *limits, form=by), cut, typed)
                assert quick == general, (quick, general)


if __name__ == "__main__":
    run(check, "the quick way to read streams", SEEDS, WORDS)
