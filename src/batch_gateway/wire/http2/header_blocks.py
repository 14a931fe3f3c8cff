"""Header blocks (HPACK, RFC 7541): written without a table, and read whole or not at all."""

from __future__ import annotations

from hpack import Decoder, HPACKError, OversizedHeaderListError

from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError

__all__ = ["ANY_NAME", "MAX_HEADER_LIST", "OpenBlock", "decode_block", "field", "string"]

# As many bytes of headers as curl, Go and Envoy take or fewer.
MAX_HEADER_LIST = 64 * 1024

ANY_NAME = b"\x00"
"""Before a name and a value that enter no table (RFC 7541 §6.2.2)."""

# A block in ever more frames that add nothing costs time and never ends.
_MOST_CONTINUATIONS = 32


class OpenBlock:
    """A block of headers whose end has not come."""

    __slots__ = ("_continuations", "data", "end", "number")

    def __init__(self, number: int, data: bytes, *, end: bool) -> None:
        self.number = number
        self.data = bytearray(data)
        self.end = end
        self._continuations = 0

    def append(self, data: bytes) -> None:
        """Raises ProtocolError when it becomes too much."""
        self.data += data
        self._continuations += 1
        if len(self.data) > MAX_HEADER_LIST or self._continuations > _MOST_CONTINUATIONS:
            raise _too_much()


def decode_block(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values in their order. Raises ProtocolError for what is not HPACK, or too much."""
    try:
        fields = decoder.decode(block, raw=True)
    except OversizedHeaderListError as error:
        raise _too_much() from error
    except (HPACKError, IndexError, ValueError) as error:
        raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "headers that do not decode") from error
    return [(bytes(name), bytes(value)) for name, value in fields]


def field(name: str, value: str) -> bytes:
    return ANY_NAME + string(name) + string(value)


def string(text: str) -> bytes:
    """A string literal without Huffman coding (RFC 7541 §5.2)."""
    raw = text.encode("latin-1")
    length = len(raw)
    if length < 0x7F:
        return bytes((length,)) + raw
    prefix = bytearray((0x7F,))
    rest = length - 0x7F
    while rest >= 0x80:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    prefix.append(rest)
    return bytes(prefix) + raw


def _too_much() -> ProtocolError:
    problem = f"more than {MAX_HEADER_LIST} bytes of headers"
    return ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, problem)
