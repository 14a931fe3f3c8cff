"""Which hosts NO_PROXY names, in every form that programs give it."""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase

__all__ = ["is_exempt"]

_BRACKETED = re.compile(r"\[(.*)\](?::(\d+))?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_exempt(no_proxy: str, host: str, port: int) -> bool:
    """Whether a comma-separated list names the host, so that it is connected to directly.

    An entry is `*`; a name, which stands for its subdomains too, with or without a leading dot or
    `*.`; a pattern such as `10.*`; an IP address; or a range of them, `10.0.0.0/8`. Each but a
    range may end in a port, and then names that port alone. A name is not looked up to see
    whether its address is in a range.
    """
    host = host.lower().rstrip(".")
    address = _address(host)
    return any(
        _names(entry.lower(), host, address, port) for entry in no_proxy.replace(",", " ").split()
    )


def _names(entry: str, host: str, address: Address | None, port: int) -> bool:
    if address is not None and "/" in entry:
        return _is_within(entry, address)
    name, entry_port = _split(entry)
    if entry_port and int(entry_port) != port:
        return False
    named = _address(name)
    if named is not None:
        return named == address
    if address is not None:
        return fnmatchcase(host, name)
    if not name.strip("."):
        return False
    name = name.rstrip(".").removeprefix("*").removeprefix(".")
    return not name or host == name or fnmatchcase(host, name) or host.endswith(f".{name}")


def _split(entry: str) -> tuple[str, str]:
    """A host and a port, perhaps empty."""
    bracketed = _BRACKETED.fullmatch(entry)
    if bracketed:
        return bracketed.group(1), bracketed.group(2) or ""
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isdecimal() and len(port) <= 5:
        return name, port
    return entry, ""


def _is_within(entry: str, address: Address) -> bool:
    try:
        network = ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
    return address in network


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # An IPv4 address in IPv6 clothes (RFC 4291 §2.5.5.2) is the same host.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
