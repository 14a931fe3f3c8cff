"""What a certificate says of itself, be it one that is refused: names and dates. Pure.

Python decodes certificates that it has verified; the ones that matter here are the others.
ITU-T X.690 for the encoding, RFC 5280 section 4.1 for the fields.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

__all__ = ["Certificate", "read_certificate"]

_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME = 0x17
_COMMON_NAME, _ORGANIZATION = bytes.fromhex("550403"), bytes.fromhex("55040a")
_ALTERNATIVE_NAMES = bytes.fromhex("551d11")
_DNS, _IP = 0x82, 0x87
_Item = tuple[int, bytes]


class Certificate(msgspec.Struct, frozen=True):
    """A certificate.

    Attributes:
        names: hosts and addresses that it is for; the common name where it names no others.
        issuer: who vouches for it, by common name or organization.
        self_signed: it vouches for itself.
        begins, ends: the time for which it holds.
    """

    names: tuple[str, ...]
    issuer: str
    self_signed: bool
    begins: datetime
    ends: datetime


def read_certificate(der: bytes) -> Certificate | None:
    """None for bytes that are no certificate."""
    try:
        return _read(der)
    except (ValueError, IndexError):
        return None


def _read(der: bytes) -> Certificate:
    (_, whole), *_ = _items(der)
    fields = list(_items(next(_items(whole))[1]))
    if fields[0][0] == _VERSION:
        fields.pop(0)
    _, _, (_, issuer), (_, validity), (_, subject), *_ = fields
    begins, ends = map(_time, _items(validity))
    extensions = next((content for tag, content in fields if tag == _EXTENSIONS), b"")
    names = tuple(_alternative_names(extensions))
    return Certificate(
        names=names or (_name(subject, _COMMON_NAME),),
        issuer=_name(issuer, _COMMON_NAME) or _name(issuer, _ORGANIZATION),
        self_signed=issuer == subject,
        begins=begins,
        ends=ends,
    )


def _items(data: bytes) -> Iterator[_Item]:
    """(tag, content) of what stands side by side. Raises ValueError where it is cut short."""
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place : place + size])
            place += size
        if place + length > len(data):
            raise ValueError("cut short")
        yield tag, data[place : place + length]
        place += length


def _name(distinguished: bytes, which: bytes) -> str:
    for _, part in _items(distinguished):
        for _, pair in _items(part):
            (_, kind), (_, value) = list(_items(pair))[:2]
            if kind == which:
                return value.decode("utf-8", "replace")
    return ""


def _time(item: _Item) -> datetime:
    tag, text = item
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    for _, several in _items(extensions):
        for _, extension in _items(several):
            (_, kind), *others = _items(extension)
            if kind == _ALTERNATIVE_NAMES:
                (_, names), *_ = _items(others[-1][1])
                for tag, content in _items(names):
                    if tag == _DNS:
                        yield content.decode("ascii", "replace")
                    elif tag == _IP and len(content) in (4, 16):
                        yield str(ipaddress.ip_address(content))
