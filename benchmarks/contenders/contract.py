"""What a client must offer to be measured."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

__all__ = ["Open", "Send", "Target"]

Send = Callable[[], Awaitable[str]]
"""One exchange: encode the request, post it, decode the answer, return the assistant's text."""


class Target(msgspec.Struct, frozen=True):
    """Where to post, how many requests will be in flight, and whose certificate to trust."""

    url: str
    in_flight: int
    ca_file: str | None = None

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    def ca_pem(self) -> bytes:
        assert self.ca_file is not None
        return Path(self.ca_file).read_bytes()

    def ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


Open = Callable[[Target], AbstractAsyncContextManager[Callable[[], Send]]]
"""Opens a client and gives each worker its `Send`; most give all workers the same one."""
