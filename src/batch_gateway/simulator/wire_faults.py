"""Sending a right answer wrongly: resets, wrong lengths, stalls, bodies without end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batch_gateway.simulator.answers.replies import Reply
from batch_gateway.simulator.faults import Fault
from batch_gateway.simulator.server_exchange import Exchange

__all__ = ["ANSWERLESS", "send_with_fault"]

ANSWERLESS = frozenset(
    {"stall", "reset-before-headers", "close-without-answer", "malformed-head", "huge-head"}
)
"""Faults in which no part of the right answer is sent, so that none needs to be made."""

# uvloop writes at the end of a turn of its loop, and an abort drops what was not written.
_FLUSH_SECONDS = 0.005
_BLOCK = b"x" * 65_536


def send_with_fault(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    """Send `reply` as the fault has it. A client that goes away ends every one of them."""
    _SENDERS[fault.name](exchange, reply, fault)


def _delay(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.after(fault.argument, lambda: exchange.send(reply))


def _stall(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    """Leave the exchange open until the client gives up."""


def _stall_body(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(exchange.head(reply, len(reply.body)) + _half(reply.body))


def _slow_headers(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    lines = exchange.head(reply, len(reply.body)).splitlines(keepends=True)

    def send_line(number: int) -> None:
        exchange.write(lines[number])
        if number + 1 < len(lines):
            exchange.after(fault.argument, lambda: send_line(number + 1))
        else:
            exchange.write(reply.body)
            exchange.finish()

    exchange.after(fault.argument, lambda: send_line(0))


def _reset_before_headers(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.reset()


def _reset_during_headers(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(_half(exchange.head(reply, len(reply.body))))
    exchange.after(_FLUSH_SECONDS, exchange.reset)


def _reset_after_headers(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(exchange.head(reply, len(reply.body)))
    exchange.after(_FLUSH_SECONDS, exchange.reset)


def _half_body(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(exchange.head(reply, len(reply.body)) + _half(reply.body))
    exchange.finish(whole=False, keep_alive=False)


def _short_length(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    promised = len(reply.body) + int(fault.argument)
    exchange.write(exchange.head(reply, promised) + reply.body)
    exchange.finish(whole=False, keep_alive=False)


def _long_length(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    surplus = b"x" * int(fault.argument)
    exchange.write(exchange.head(reply, len(reply.body)) + reply.body + surplus)
    exchange.finish()


def _endless_body(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.begin_stream(reply._replace(body=b'{"id":"'))
    _repeat(exchange, lambda: exchange.send_chunk(_BLOCK))


def _malformed_head(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(b"HTTQ/one point one OK then\r\n\r\n" + reply.body)
    exchange.finish(whole=False, keep_alive=False)


def _huge_head(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(b"HTTP/1.1 200 OK\r\n")
    line = b"x-filler: " + b"x" * 8_000 + b"\r\n"
    _repeat(exchange, lambda: exchange.write(line))


def _close_without_answer(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.finish(whole=False, keep_alive=False)


def _close_idle(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(exchange.head(reply, len(reply.body), close=False) + reply.body)
    exchange.finish(keep_alive=False)


def _close_on_next_request(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.doom_connection()
    exchange.send(reply)


def _until_close(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(exchange.head(reply, None, close=True) + reply.body)
    exchange.finish(keep_alive=False)


def _chunked(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    size = max(1, int(fault.argument))
    exchange.begin_stream(reply._replace(body=b""))
    for start in range(0, len(reply.body), size):
        exchange.send_chunk(reply.body[start : start + size])
    exchange.end_stream()


def _informational(exchange: Exchange, reply: Reply, fault: Fault) -> None:
    exchange.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
    exchange.send(reply)


_SENDERS: Mapping[str, Callable[[Exchange, Reply, Fault], None]] = {
    "delay": _delay,
    "stall": _stall,
    "stall-body": _stall_body,
    "slow-headers": _slow_headers,
    "reset-before-headers": _reset_before_headers,
    "reset-during-headers": _reset_during_headers,
    "reset-after-headers": _reset_after_headers,
    "half-body": _half_body,
    "short-length": _short_length,
    "long-length": _long_length,
    "endless-body": _endless_body,
    "malformed-head": _malformed_head,
    "huge-head": _huge_head,
    "close-without-answer": _close_without_answer,
    "close-idle": _close_idle,
    "close-on-next-request": _close_on_next_request,
    "until-close": _until_close,
    "chunked": _chunked,
    "informational": _informational,
}


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _repeat(exchange: Exchange, send: Callable[[], None]) -> None:
    def again() -> None:
        if not exchange.ended:
            send()
            exchange.when_writable(again)

    again()
