"""The messages to an endpoint picker as bytes, with what never changes encoded once.

Building them out of message objects costs several times as much. A test holds every message
against the generated classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from batch_gateway.errors import ConfigError, InvalidRequestError
from batch_gateway.http.header_rules import check_headers
from batch_gateway.wire.ext_proc.messages_pb2 import Metadata
from batch_gateway.wire.ext_proc.names import (
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    LB_NAMESPACE,
    SUBSET_NAMESPACE,
)
from batch_gateway.wire.http2.grpc_messages import FrameAround, frame_around, message_prefix

__all__ = [
    "END_OF_STREAM",
    "HANDED_BACK_ENDS",
    "PIECE",
    "PIECE_FRAMES",
    "STREAMED_REQUEST",
    "STREAMED_RESPONSE",
    "PieceFrames",
    "QuestionEncoder",
    "Shape",
    "piece_frames",
    "pieces_of",
    "response_body",
    "response_head",
    "served_by",
    "streamed_head",
]

# A picker takes messages of up to 4 MB, gRPC's usual limit, and collects the whole body before it
# looks. A quarter of that leaves room for a proxy with a smaller limit, and a megabyte prompt is
# still one message; Envoy's own pieces are as large as its buffers, which we do not have.
PIECE = 1024 * 1024

_REQUEST_HEADERS, _RESPONSE_HEADERS = b"\x12", b"\x1a"
_REQUEST_BODY, _RESPONSE_BODY = b"\x22", b"\x2a"
_METADATA_CONTEXT = b"\x42"
# Of what comes back: ProcessingResponse.request_body and response_body, and what is within.
STREAMED_REQUEST, STREAMED_RESPONSE = b"\x1a", b"\x22"
_BODY_MUTATION, _STREAMED = b"\x1a", b"\x1a"
# protocol_config: FULL_DUPLEX_STREAMED both ways.
_PROTOCOL = b"\x5a\x04\x08\x04\x10\x04"
# Of HttpHeaders, HeaderMap and HttpBody alike: field 1, with a length.
_FIRST = b"\x0a"
_KEY, _RAW_VALUE = b"\x0a", b"\x1a"
END_OF_STREAM = b"\x10\x01"

_MAX_SHAPES = 256
# Most headers of answers say the same every time; ids and dates fill this up, and then it is
# begun anew.
_MAX_ANSWER_HEADERS = 1024
_answer_headers: dict[tuple[bytes, bytes], bytes] = {}
# Sizes of bodies, heads and events come again and again, some of them with every request.
_MAX_SIZES = 2_048
# Of five fields with a length, each of up to five bytes.
_LONGEST_HEAD = 30

Pairs = Sequence[tuple[str, str]]


class Shape:
    """What requests with the same path and header names have in common.

    Attributes:
        fixed: the headers that are always the same, encoded.
        keys: the encoded name of each other header.
        names: the same in lower case.
        base: the fixed headers, pseudo headers included, by lower-case name.
    """

    __slots__ = ("base", "fixed", "keys", "names")

    def __init__(self, fixed: dict[str, str], names: tuple[str, ...]) -> None:
        self.base = fixed
        self.names = names
        self.keys = tuple(_delimited(_KEY, name.encode("latin-1")) for name in names)
        self.fixed = b"".join(
            _header(_delimited(_KEY, name.encode("latin-1")), value.encode("latin-1"))
            for name, value in fixed.items()
        )


class QuestionEncoder:
    """Encodes what is said about requests to one gateway.

    `origin` headers belong to every request unless it sets the same name. Raises
    InvalidRequestError for a header that cannot be sent.
    """

    def __init__(
        self,
        *,
        authority: str,
        scheme: str,
        locate: Callable[[str], str],
        origin: Pairs,
        subset: Sequence[str],
    ) -> None:
        self._pseudo = {":method": "POST", ":authority": authority, ":scheme": scheme}
        self._locate = locate
        self._origin = origin
        self._subset = _subset_hint(subset)
        self._shapes: dict[tuple[str, ...], Shape] = {}

    def among(self, subset: Sequence[str]) -> QuestionEncoder:
        """One that has the picker choose among these pods only, the rest being the same."""
        other = copy.copy(self)
        other._subset = _subset_hint(subset)
        return other

    def headers(self, path: str, headers: Pairs, length: int) -> tuple[bytes, dict[str, str]]:
        """The first message, and the same headers by lower-case name for whoever sends them on.

        Only the picker is told the `length` of the body; it may be another when it is sent on.
        """
        shape = self._shapes.get((path, *[name for name, _ in headers]))
        if shape is None:
            shape = self._new_shape(path, headers)
        encoded = shape.fixed
        by_name = shape.base.copy()
        for key, name, (_, value) in zip(shape.keys, shape.names, headers, strict=True):
            # As for HTTP: a line break in a value would let it write headers of its own.
            if not (value.isascii() and value.isprintable()):
                _check(headers)
            encoded += _header(key, value.encode("latin-1"))
            by_name[name] = value
        encoded += _length_header(length)
        size = _varint(len(encoded))
        whole = _varint(1 + len(size) + len(encoded))
        message = b"%b%b\x0a%b%b%b%b" % (
            _REQUEST_HEADERS, whole, size, encoded, self._subset, _PROTOCOL,
        )  # fmt: skip
        return message, by_name

    def body(self, pieces: Sequence[bytes]) -> Iterator[bytes]:
        """A message for each piece, the last of which ends the body."""
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            yield self.body_message(piece, last=index == last)

    def body_message(self, piece: bytes, *, last: bool) -> bytes:
        """The message for one piece of the body."""
        message = _body(_REQUEST_BODY, piece, last=last)
        return message + self._subset if self._subset else message

    def _new_shape(self, path: str, headers: Pairs) -> Shape:
        _check(headers)
        names = tuple(name.lower() for name, _ in headers)
        fixed = {**self._pseudo, ":path": self._locate(path)}
        for name, value in self._origin:
            lower = name.lower()
            if lower not in names:
                fixed[lower] = f"{fixed[lower]}, {value}" if lower in fixed else value
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        shape = self._shapes[path, *[name for name, _ in headers]] = Shape(fixed, names)
        return shape


def pieces_of(body: bytes) -> Sequence[bytes]:
    """`body` cut into what fits into one message; an empty one is one piece."""
    if len(body) <= PIECE:
        return (body,)
    return [body[start : start + PIECE] for start in range(0, len(body), PIECE)]


def response_head(status: int, headers: Sequence[tuple[bytes, bytes]], served: bytes) -> bytes:
    """The message that reports a status and headers; `served` is of `served_by`."""
    known = _answer_headers.get
    encoded = [_status_header(status)]
    encoded += [known(pair) or _answer_header(pair) for pair in headers]
    header_map = b"".join(encoded)
    size = _varint(len(header_map))
    whole = _varint(1 + len(size) + len(header_map))
    return b"%b%b\x0a%b%b%b" % (_RESPONSE_HEADERS, whole, size, header_map, served)


def response_body(piece: bytes, *, last: bool) -> bytes:
    """The message that reports a piece of a body."""
    head = _body_head(_RESPONSE_BODY, len(piece), last)
    return b"%b%b%b" % (head, piece, END_OF_STREAM) if last else head + piece


class PieceFrames(NamedTuple):
    """What goes around pieces of one size.

    Attributes:
        told: the frame that reports one.
        handed_back: how a message begins that hands one back, which is the rest of it; as it goes
            into a stream, with its length before it.
    """

    told: FrameAround
    handed_back: bytes


PIECE_FRAMES: dict[int, PieceFrames] = {}
"""Those that `piece_frames` gave: events are of few sizes."""


def piece_frames(size: int) -> PieceFrames:
    """For pieces of a body of so many bytes, at least one, that are not its last."""
    head = _streamed(STREAMED_RESPONSE, size, b"")
    told = frame_around(_body_head(_RESPONSE_BODY, size, False), size)
    made = PieceFrames(told, message_prefix(size + len(head)) + head)
    if len(PIECE_FRAMES) < _MAX_SIZES:
        PIECE_FRAMES[size] = made
    return made


@lru_cache(_MAX_SIZES)
def streamed_head(field: bytes, size: int, is_last: bool) -> bytes:
    """How a message of so many bytes begins that brings a piece of a body, which is the rest of it;
    behind the last piece there is END_OF_STREAM besides. b"" where no message is so long.
    """
    end = END_OF_STREAM if is_last else b""
    for body in range(max(1, size - _LONGEST_HEAD), size):
        head = _streamed(field, body, end)
        if len(head) + body + len(end) == size:
            return head
    return b""


def _streamed(field: bytes, size: int, end: bytes) -> bytes:
    return _within(field, _FIRST + _varint(size), size + len(end))


def _within(field: bytes, head: bytes, rest: int) -> bytes:
    """What a streamed response is in, and its `head`, behind which so many bytes follow."""
    for outer in (_STREAMED, _BODY_MUTATION, _FIRST, field):
        head = outer + _varint(len(head) + rest) + head
    return head


def served_by(endpoint: str) -> bytes:
    """The part of a message that says which pod answered."""
    metadata = Metadata()
    metadata.filter_metadata[LB_NAMESPACE].update({DESTINATION_SERVED: endpoint})
    return _delimited(_METADATA_CONTEXT, metadata.SerializeToString())


def _subset_hint(subset: Sequence[str]) -> bytes:
    if not subset:
        return b""
    metadata = Metadata()
    metadata.filter_metadata[SUBSET_NAMESPACE].update({DESTINATION_SUBSET: list(subset)})
    return _delimited(_METADATA_CONTEXT, metadata.SerializeToString())


def _body(field: bytes, piece: bytes, *, last: bool) -> bytes:
    # In one go, because a piece may be large.
    return b"%b%b%b" % (_body_head(field, len(piece), last), piece, END_OF_STREAM if last else b"")


@lru_cache(_MAX_SIZES)
def _body_head(field: bytes, piece: int, last: bool) -> bytes:
    end = len(END_OF_STREAM) if last else 0
    if not piece:
        return field + _varint(end)
    size = _varint(piece)
    return b"%b%b\x0a%b" % (field, _varint(1 + len(size) + piece + end), size)


@lru_cache(_MAX_SIZES)
def _length_header(length: int) -> bytes:
    return _header(_LENGTH_KEY, b"%d" % length)


@lru_cache(_MAX_SHAPES)
def _status_header(status: int) -> bytes:
    return _header(_STATUS_KEY, b"%d" % status)


def _header(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 2
    if size < 128:
        return b"\x0a%c%b\x1a%c%b" % (size, key, len(value), value)
    content = b"%b\x1a%b%b" % (key, _varint(len(value)), value)
    return b"\x0a%b%b" % (_varint(len(content)), content)


def _answer_header(pair: tuple[bytes, bytes]) -> bytes:
    name, value = pair
    encoded = _header(_delimited(_KEY, name.lower()), value)
    if len(_answer_headers) >= _MAX_ANSWER_HEADERS:
        _answer_headers.clear()
    _answer_headers[pair] = encoded
    return encoded


def _delimited(field: bytes, content: bytes) -> bytes:
    return b"%b%b%b" % (field, _varint(len(content)), content)


@lru_cache(_MAX_SIZES)
def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _check(headers: Pairs) -> None:
    try:
        check_headers("headers", headers)
    except ConfigError as error:
        raise InvalidRequestError(str(error), cause=error) from error


# Some leave out an empty body, as all do in what is generated; others say that it is empty.
_ENDS = [
    _within(STREAMED_RESPONSE, body, len(END_OF_STREAM)) + END_OF_STREAM
    for body in (b"", _FIRST + _varint(0))
]
HANDED_BACK_ENDS = [message_prefix(len(end)) + end for end in _ENDS]
"""The messages that hand back the end of a body without a piece of it, as they go into a stream."""

_LENGTH_KEY = _delimited(_KEY, b"content-length")
_STATUS_KEY = _delimited(_KEY, b":status")
