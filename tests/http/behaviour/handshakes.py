"""A TLS server on blocking sockets, for handshakes that the server refuses.

asyncio's server side closes such a connection without sending OpenSSL's alert, so that a client
would not learn the reason that every other server gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator

from .scripted_server import LIMIT, answer

__all__ = ["tls_server"]


@contextlib.asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[str]:
    """The https:// URL of a server that answers one request on each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, context))
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            # The last connection, which says nothing, wakes and ends the thread. Waited for
            # without holding up the event loop, in which clients close their ends.
            socket.create_connection(("127.0.0.1", port), LIMIT).close()
            await asyncio.to_thread(thread.join, LIMIT)


def _accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        plain, _ = listener.accept()
        plain.settimeout(LIMIT)
        with plain:
            if not plain.recv(1, socket.MSG_PEEK):
                return
            with contextlib.suppress(OSError):
                _serve(plain, context)


def _serve(plain: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as tls:
        try:
            tls.do_handshake()
        except ssl.SSLError:
            # Closing with the request unread would make the kernel send a reset, which may
            # overtake the alert. Whether a client survives that is a race, not a test.
            tls.shutdown(socket.SHUT_WR)
            while tls.recv(65536):
                pass
            return
        tls.recv(65536)
        tls.sendall(answer())
