"""Header blocks (HPACK, RFC 7541) without a dynamic table, so that equal headers are equal bytes.

Our blocks never enter anything into a table, and the server is told to keep none either. Each
block then stands for itself, and what was encoded or decoded once need not be again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpack import Decoder

from batch_gateway.errors import InvalidRequestError
from batch_gateway.wire.http2.grpc_status import decode_status_message
from batch_gateway.wire.http2.header_blocks import (
    ANY_NAME,
    MAX_HEADER_LIST,
    decode_block,
    field,
    string,
)

__all__ = ["RequestBlocks", "ResponseBlocks", "ResponseHeaders"]

# Callers use a handful of methods, and servers of answers. More must not fill memory.
_MAX_REMEMBERED = 256
_LONGEST_REMEMBERED = 1024

# A table of size 0, before any field (RFC 7541 §6.3).
_NO_TABLE = b"\x20"
_POST = b"\x83"
_SCHEMES = {False: b"\x86", True: b"\x87"}
# Literals without indexing whose names are in the static table.
_AUTHORITY, _PATH, _CONTENT_TYPE, _USER_AGENT = b"\x01", b"\x04", b"\x0f\x10", b"\x0f\x2b"

_NAME = re.compile(r"[0-9a-z_.-]+")
_METHOD = re.compile(r"/[!-~]+")

# gRPC allows eight digits.
_LARGEST_NUMBER = 99_999_999


class RequestBlocks:
    """The header blocks of calls to one target."""

    __slots__ = ("_authority", "_remembered", "_tls", "_user_agent")

    def __init__(self, authority: str, *, tls: bool, user_agent: str) -> None:
        self._authority = authority
        self._tls = tls
        self._user_agent = user_agent
        self._remembered: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}

    def build(self, method: str, metadata: Sequence[tuple[str, str]], time_left: float) -> bytes:
        """The block of a call that has `time_left` seconds.

        Raises InvalidRequestError for a method or metadata that cannot be sent.
        """
        key = (method, tuple(metadata))
        block = self._remembered.get(key)
        if block is None:
            block = self._encode(method, metadata)
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = block
        timeout = _timeout(time_left)
        return b"%b%c%b" % (block, len(timeout), timeout)

    def _encode(self, method: str, metadata: Sequence[tuple[str, str]]) -> bytes:
        """All but the value of the last field, which is the timeout."""
        if not _METHOD.fullmatch(method):
            raise InvalidRequestError(f"{method!r} is not the path of a gRPC method")
        for name, value in metadata:
            _check(name, value)
        return b"".join(
            (
                _NO_TABLE,
                _POST,
                _SCHEMES[self._tls],
                _PATH + string(method),
                _AUTHORITY + string(self._authority),
                field("te", "trailers"),
                _CONTENT_TYPE + string("application/grpc"),
                _USER_AGENT + string(self._user_agent),
                field("grpc-accept-encoding", "identity"),
                *(field(name, value) for name, value in metadata),
                ANY_NAME + string("grpc-timeout"),
            )
        )


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """What a block of headers or trailers says that matters to a call.

    Attributes:
        http_status: `:status`, or None: trailers have none.
        content_type: empty where there is none.
        encoding: `grpc-encoding`, "identity" where it is not given.
        grpc_status: None where it is not given, -1 where it is no number.
        grpc_message: percent-decoded.
        problem: why it is not a valid block of headers at all, or empty.
    """

    http_status: int | None = None
    content_type: str = ""
    encoding: str = "identity"
    grpc_status: int | None = None
    grpc_message: str = ""
    problem: str = ""


class ResponseBlocks:
    """Reads the header blocks of one connection."""

    __slots__ = ("_decoder", "_remembered")

    def __init__(self) -> None:
        decoder = self._decoder = Decoder(MAX_HEADER_LIST)
        decoder.header_table_size = 0
        decoder.max_allowed_table_size = 0
        self._remembered: dict[bytes, ResponseHeaders] = {}

    def read(self, block: bytes) -> ResponseHeaders:
        """Raises ProtocolError for what is not HPACK, or too much."""
        known = self._remembered.get(block)
        if known is not None:
            return known
        headers = _interpreted(decode_block(self._decoder, block))
        if len(block) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[block] = headers
        return headers


def _interpreted(fields: Sequence[tuple[bytes, bytes]]) -> ResponseHeaders:
    values: dict[str, str] = {}
    regular = False
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        pseudo = name.startswith(":")
        if pseudo and (regular or name != ":status" or name in values):
            return ResponseHeaders(problem=f"a misplaced {name[:40]!r} among its headers")
        if not name or name != name.lower():
            return ResponseHeaders(problem="a header name that is not in lower case")
        regular = regular or not pseudo
        values.setdefault(name, value)
    status = values.get(":status")
    if status is not None and not (len(status) == 3 and status.isascii() and status.isdigit()):
        return ResponseHeaders(problem="a status that is not a number")
    return ResponseHeaders(
        http_status=None if status is None else int(status),
        content_type=values.get("content-type", ""),
        encoding=values.get("grpc-encoding", "identity"),
        grpc_status=_grpc_status(values.get("grpc-status")),
        grpc_message=decode_status_message(values.get("grpc-message", "")),
    )


def _grpc_status(text: str | None) -> int | None:
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name) or name.startswith("grpc-") or name in _OURS:
        raise InvalidRequestError(f"{name!r} is not a metadata name that a call can carry")
    if not (value.isascii() and value.isprintable()):
        raise InvalidRequestError(f"the metadata {name!r} has a value that cannot be sent")


_OURS = frozenset({"te", "content-type", "user-agent", "connection", "host"})


def _timeout(seconds: float) -> bytes:
    """gRPC's spelling; rounded up, so that the server is not the first to give up."""
    if seconds < _LARGEST_NUMBER / 1000:
        return b"%dm" % max(1, int(seconds * 1000) + 1)
    return b"%dS" % (int(min(seconds, _LARGEST_NUMBER - 1)) + 1)
