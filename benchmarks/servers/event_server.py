"""Streams of events from a process of its own: `python -m benchmarks.servers.event_server FOLDER`.

The path of a request says how many events its answer has and how many of them go out in one
write: `/300/4/v1/chat/completions`. All answers under way go forward in step. After one write to
each of them a byte goes out on the control connection, and the next round waits until the client
has sent it back: whatever the client's speed, each of its reads brings one write. Without such a
connection rounds follow one another. A request that asks for no stream gets its answer in one.

`FOLDER` has the certificate, as `benchmarks.servers.nginx` writes it. Prints its three ports.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from functools import cache
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.payload import PATH

__all__ = ["event_text", "events"]

_WORDS = ["The", " web", " shop", " has", " answered", " a", " third", " of", " its", " requests,"]
_REQUEST = re.compile(
    rb"POST /(\d+)/(\d+)" + PATH.encode() + rb" .*?content-length: *(\d+)",
    re.DOTALL | re.IGNORECASE,
)
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


_FRAME = {
    "id": "chatcmpl-8f14e45fceea167a5a36dedd4bea2543",
    "object": "chat.completion.chunk",
    "created": 1790000000,
    "model": "llama-3-8b-instruct",
}


def event_text(count: int) -> str:
    """What the answer of so many events says."""
    return "".join(_WORDS[number % len(_WORDS)] for number in range(count))


def events(count: int) -> list[bytes]:
    """As vLLM writes them, and behind them what ends an answer."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": _WORDS[number % len(_WORDS)]}, None) for number in range(count)]
    deltas.append(({}, "stop"))
    chunks = [
        {
            **_FRAME,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
        }
        for delta, reason in deltas
    ]
    usage = {"prompt_tokens": 241, "completion_tokens": count, "total_tokens": 241 + count}
    chunks.append({**_FRAME, "choices": [], "usage": usage})
    lines = [json.dumps(chunk, separators=(",", ":")).encode() for chunk in chunks]
    return [b"data: " + line + b"\n\n" for line in [*lines, b"[DONE]"]]


@cache
def _writes(count: int, a_write: int) -> list[bytes]:
    """Each event a chunk of the transfer coding, so many of them in a write."""
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events(count)]
    writes = [b"".join(chunks[at : at + a_write]) for at in range(0, len(chunks), a_write)]
    # The first may be the last.
    writes[0] = _HEAD + writes[0]
    writes[-1] += b"0\r\n\r\n"
    return writes


@cache
def _whole(count: int) -> bytes:
    message = {"role": "assistant", "content": event_text(count)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 241, "completion_tokens": count, "total_tokens": 241 + count}
    answer = {**_FRAME, "object": "chat.completion", "choices": [choice], "usage": usage}
    body = json.dumps(answer, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class _Rounds:
    """Takes all answers a write further whenever the client is ready for it."""

    def __init__(self) -> None:
        self._waiting: list[_Answer] = []
        self._control: asyncio.Transport | None = None
        self._is_turn = True

    def begin(self, answer: _Answer) -> None:
        self._waiting.append(answer)
        if self._is_turn:
            # Behind the requests that are there already.
            self._is_turn = False
            asyncio.get_running_loop().call_soon(self.go_on)

    def control(self, transport: asyncio.Transport) -> None:
        self._control = transport

    def go_on(self) -> None:
        answers, self._waiting = self._waiting, []
        self._waiting += [answer for answer in answers if answer.write_next()]
        self._is_turn = not answers
        if answers and self._control is not None:
            self._control.write(b".")
        elif answers:
            asyncio.get_running_loop().call_soon(self.go_on)


class _Answer(asyncio.Protocol):
    """One connection: a request, its answer in many writes, and so on."""

    def __init__(self, rounds: _Rounds) -> None:
        self._rounds = rounds
        self._received = b""
        self._writes: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writes = []

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        found = _REQUEST.match(head) if end else None
        if found is None or len(body) < int(found[3]):
            return
        self._received = b""
        if b'"stream":true' in body.replace(b" ", b""):
            self._writes = list(reversed(_writes(int(found[1]), int(found[2]))))
        else:
            self._writes = [_whole(int(found[1]))]
        self._rounds.begin(self)

    def write_next(self) -> bool:
        """Whether more is to come."""
        if self._writes and self._transport is not None:
            self._transport.write(self._writes.pop())
        return bool(self._writes)


class _Control(asyncio.Protocol):
    def __init__(self, rounds: _Rounds) -> None:
        self._rounds = rounds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._rounds.control(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._rounds.go_on()


async def _serve(folder: Path) -> None:
    loop, rounds = asyncio.get_running_loop(), _Rounds()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    servers = [
        await loop.create_server(lambda: _Answer(rounds), "127.0.0.1", 0, backlog=4096),
        await loop.create_server(
            lambda: _Answer(rounds), "127.0.0.1", 0, backlog=4096, ssl=context
        ),
        await loop.create_server(lambda: _Control(rounds), "127.0.0.1", 0),
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
