"""Public clients of batch servers, each in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from tests.peers.installing import peer_environment
from tests.peers.node_packages import node_with

__all__ = [
    "autobatcher_python",
    "http_python",
    "litellm_python",
    "node_with_openai",
    "old_openai_python",
]


def old_openai_python() -> Path:
    """A Python with the openai package that many still have."""
    return peer_environment("openai-1.40", ["openai==1.40.0", "httpx==0.27.2"])


def litellm_python() -> Path:
    return peer_environment("litellm", ["litellm==1.110.2"])


def autobatcher_python() -> Path:
    """A Python with a client that makes batches of what is asked of it one by one."""
    return peer_environment("autobatcher", ["autobatcher==0.3.1", "openai==3.57.0"])


def http_python() -> Path:
    """A Python with requests, aiohttp and httpx."""
    return peer_environment(
        "http-clients", ["requests==2.34.2", "aiohttp==3.14.5", "httpx==0.28.1"]
    )


def node_with_openai(folder: Path) -> Path:
    """The program `node`; scripts in `folder` can import the openai package."""
    return node_with("openai-node", ["openai@6.49.0"], folder)
