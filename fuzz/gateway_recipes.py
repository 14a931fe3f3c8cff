"""Answers that one gateway sends one after another, by a recipe: plain, odd and hostile ones."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from batch_gateway.client.streaming.limits import StreamLimits
from fuzz.quick_reader import DELTAS, OTHERS, TEXTS, Recipe

__all__ = ["IDLE", "Answer", "Read", "answers"]

IDLE = 10.0
_MOST_ANSWERS = 6
# The first answer is plain: its form is learnt.
_TAUGHT = bytes((0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4))
# Seconds before a read.
_GAPS = (0.0,) * 9 + (1.0, 4.0, 7.0, 12.0)
_PACES = (0.0, 0.0, 4.0, 7.0)

_CHAT = (
    b'{"id":"%(id)b","object":"chat.completion.chunk","created":%(created)b,"model":"m",'
    b'"choices":[{"index":0,"delta":{%(said)b},"logprobs":null,"finish_reason":%(reason)b}]%(more)b}'
)
_COMPLETION = (
    b'{"id": "%(id)b", "object": "text_completion", "created": %(created)b, "model": "m",'
    b' "choices": [{"index": 0, %(said)b, "finish_reason": %(reason)b}]%(more)b}'
)
_SHORT = b'{"choices":[{"delta":{%(said)b},"finish_reason":%(reason)b,"index":0}]%(more)b}'
_USAGE = b'"usage":{"prompt_tokens":5,"completion_tokens":%b,"details":{"cached":0}}'


class _Gateway(NamedTuple):
    endpoint: str
    event: bytes
    text: bytes
    opening: bytes
    last: bytes = b""


_GATEWAYS = (
    _Gateway("/v1/chat/completions", _CHAT, b'"content":"%b"', b'"role":"assistant","content":""'),
    _Gateway("/v1/completions", _COMPLETION, b'"text": "%b"', *[b'"text": ""'] * 2),
    _Gateway("/v1/chat/completions", _SHORT, b'"content":"%b"', b'"role":"assistant"'),
    _Gateway("/v1/chat/completions", _CHAT, b'"reasoning_content":"%b"', b'"role":"assistant"'),
)
_IDS = (b"1", b"cmpl-22", b"a/b%id", b"", b"i\\u0064", b"4")
_CREATED = (b"1700000000", b"1700000001", b"0", b"1.5", b"2")
_REASONS = (b'"stop"', b'"length"', b'"tool_calls"', b'""', b"null", b'"stop"')
_COUNTS = (b"7", b"0", b"123456", b"-1", b"1e3", b"00")
_LIMITS = ((10**6, 10**6), (140_000, 10**6), (10**6, 20_000), (200_000, 17_000))
_LENGTHS = (9, 400, 5_000, 18_000, 70_000)
_ASKED = (b'{"n":1}', b'{"n":1}', b'{"n":2}')
_HEADS = (
    *[b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked"] * 6,
    b"transfer-encoding: Chunked\r\nKeep-Alive: timeout=5",
    b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close",
)
_ENDS = (b"\r\n\r\n", b"\n", b"\r\r", b"\n\n\n", b"\nid: 1\n\n", b"\n\n")
_FIELDS = (b"data:", b"data:  ", b"event: message\ndata: ", b"\xef\xbb\xbfdata: ", b"data: ")
_CHANGES = (
    (b'"index":0', b'"index":1'),
    (b'"choices"', b'"choices":[],"extra":{"a":1},"choices"'),
    (b"}]", b'},{"index":1,"delta":{"content":"two"},"text":"two"}]'),
    (b'"index"', b'"list":[1],"index"'),
    (b'"model"', b'"error":null,"model"'),
)
_CHUNK_LINES = (b"%x", b"%X", b"0%x", b"%x;name=value", b"%x ", b"000%X;q", b"%x\t")
_LASTS = (
    *[b"0\r\n\r\n"] * 5,
    *(
        b"0\r\nTrailer: x\r\n\r\n",
        b"00\r\n\r\n",
        b"0;last\r\n\r\n",
        b"",
        b"0\r\n",
        b"0\r\n\r\nHTTP",
    ),
    *(b"?\r\n", b"5\r\ndata:", b"0\r\n\r\n0\r\n\r\n"),
)


class Read(NamedTuple):
    """What comes after so many seconds; None is the end of the connection, b"" its reset."""

    gap: float
    data: bytes | None


class Answer(NamedTuple):
    endpoint: str
    asked: bytes
    limits: StreamLimits
    # How many chunks whoever reads lets wait; None where nobody wants them.
    room: int | None
    reads: list[Read]


class _Writer:
    """Writes the events of one answer."""

    def __init__(self, recipe: Recipe, gateway: _Gateway) -> None:
        self._recipe = recipe
        self._gateway = gateway
        self._names = {b"id": recipe.one(_IDS), b"created": recipe.one(_CREATED)}
        self._frame = gateway.event
        self._field, self._end = b"data: ", b"\n\n"

    def events(self) -> Iterator[bytes]:
        recipe, gateway = self._recipe, self._gateway
        yield self._event(gateway.opening)
        for _ in range((recipe.next() + 4) % 16):
            what = recipe.next()
            if what < 120:
                yield self._text(b" word" * (1 + what % 5))
            elif what < 170:
                yield self._text(recipe.one(TEXTS))
            else:
                yield self._odd(what)
        ends, reason = recipe.next(), recipe.one(_REASONS)
        usage = b"," + _USAGE % recipe.one(_COUNTS)
        if ends % 8 < 7:
            yield self._event(gateway.last, reason, usage * (ends % 2))
        yield from [b": ping\n\n"] * (ends // 100)
        if ends % 3 < 2:
            start, choices, rest = self._frame.partition(b'"choices":')
            self._frame = start + choices + b"[" + rest[rest.rindex(b"]") :]
            yield self._event(b"", more=usage)
        if ends % 32 < 31:
            yield b"data: [DONE]\n\n"
        if ends == 200:
            yield self._text(b"behind the end")

    def _event(self, said: bytes, reason: bytes = b"null", more: bytes = b"") -> bytes:
        values = {**self._names, b"said": said, b"reason": reason, b"more": more}
        return self._field + self._frame % values + self._end

    def _text(self, letters: bytes) -> bytes:
        return self._event(self._gateway.text.replace(b"%b", letters))

    def _odd(self, what: int) -> bytes:
        recipe, text = self._recipe, self._gateway.text
        match what % 11:
            case 0:
                return self._text(b"x" * recipe.one(_LENGTHS) + b"\n" * (what % 2))
            case 1 | 2:
                return recipe.one(OTHERS)
            case 3:
                delta = recipe.one(DELTAS).replace(b"%b", recipe.one(TEXTS))
                inner = delta.removeprefix(b'"delta":').removeprefix(b"{").removesuffix(b"}")
                return self._event(inner)
            case 4:
                return self._event(text.replace(b"%b", b"last"), recipe.one(_REASONS))
            case 5:
                return self._event(text.replace(b"%b", b"more"), more=b"," + _USAGE % b"3")
            case 6:
                # Here and below: all that comes from now on.
                self._end = recipe.one(_ENDS)
            case 7:
                self._field = recipe.one(_FIELDS)
            case 8:
                self._names[b"id"] = recipe.one(_IDS)
            case 9:
                self._names[b"created"] = recipe.one(_CREATED)
            case _:
                self._frame = self._frame.replace(*recipe.one(_CHANGES))
        return b": changed\n\n" * (what % 2)


def _chunks(recipe: Recipe, events: Iterable[bytes]) -> Iterator[bytes]:
    """Framed, each as what comes in one go unless it is cut."""
    together = b""
    for event in events:
        how = recipe.next()
        body, together = together + event, b""
        if how < 60:
            yield b"%x\r\n%b\r\n" % (len(body), body)
        elif how < 90:
            yield recipe.one(_CHUNK_LINES) % len(body) + b"\r\n" + body + b"\r\n"
        elif how < 110:
            # In one chunk with the next.
            together = body
        elif how < 140:
            at = recipe.next() % (len(body) + 1)
            parts = [part for part in (body[:at], body[at:]) if part]
            made = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
            yield from made if how % 2 else [b"".join(made)]
        elif how < 144:
            yield b"%x\n%b\n" % (len(body), body)
        elif how < 147:
            yield b"%x\r\n%b\r\n" % (len(body) + 1, body)
        elif how < 160:
            # What looks like a chunk, inside of one.
            inner = b"%x\r\n%b\r\n" % (len(body), body)
            yield b"%x\r\n%b" % (len(body) + len(inner), body)
            yield inner
            yield b"\r\n"
        else:
            yield b"%x\r\n%b\r\n" % (len(body), body)
    if together:
        yield b"%x\r\n%b\r\n" % (len(together), together)


def _cut(recipe: Recipe, pieces: Iterable[bytes]) -> Iterator[Read]:
    before, pace = b"", _PACES[recipe.next() % len(_PACES)]
    for piece in pieces:
        how, gap = recipe.next(), _GAPS[recipe.next() % len(_GAPS)] or pace
        read, before = before + piece, b""
        if how < 128:
            yield Read(gap, read)
        elif how < 160:
            before = read
        elif how < 220:
            at = recipe.next() % (len(read) + 1)
            before = read[at:]
            if read[:at]:
                yield Read(gap, read[:at])
        else:
            size = max(how - 219, len(read) // 40)
            for start in range(0, len(read), size):
                yield Read(gap / 4, read[start : start + size])
                gap = 0.0
    if before:
        yield Read(0.0, before)


def _answer(recipe: Recipe, gateway: _Gateway, limits: StreamLimits) -> Answer:
    kind, head = recipe.next(), recipe.one(_HEADS)
    room = (None, None, 2, 16, 10**9)[recipe.next() % 5]
    asked = recipe.one(_ASKED)
    events = [event for event in _Writer(recipe, gateway).events() if event]
    status = b"HTTP/1.1 200 OK\r\n"
    if kind < 200:
        pieces = [*_chunks(recipe, events), recipe.one(_LASTS)]
    elif kind < 220:
        head, pieces = b"Content-Length: %d" % sum(map(len, events)), events
    elif kind < 230:
        head, pieces = b"Content-Type: text/event-stream", events
    elif kind < 245:
        head += b"\r\nContent-Encoding: gzip"
        packed = gzip.compress(b"".join(events), mtime=0)
        pieces = [*_chunks(recipe, [packed[:50], packed[50:]]), b"0\r\n\r\n"]
    else:
        status = b"HTTP/1.1 503 Busy\r\n"
        pieces = [*_chunks(recipe, [b'{"error":"busy"}']), b"0\r\n\r\n"]
    if 170 <= kind < 200:
        del pieces[recipe.next() % (len(pieces) + 1) :]
    top = status + head + b"\r\n\r\n"
    first = [top] if recipe.next() % 2 or not pieces else [top + pieces.pop(0)]
    reads = [read for read in _cut(recipe, [*first, *pieces]) if read.data]
    end = (b"", None, None)[recipe.next() % 3]
    return Answer(gateway.endpoint, asked, limits, room, [*reads, Read(1.0, end)])


def answers(data: bytes) -> list[Answer]:
    """What the recipe makes."""
    recipe = Recipe(data)
    gateway: _Gateway = recipe.one(_GATEWAYS)
    largest, event = recipe.one(_LIMITS)
    limits = StreamLimits(idle_timeout=IDLE, max_response_bytes=largest, max_event_bytes=event)
    made = [_answer(Recipe(_TAUGHT), gateway, limits)]
    while len(made) < 2 or (len(made) < _MOST_ANSWERS and not recipe.is_over):
        made.append(_answer(recipe, gateway, limits))
    return made
