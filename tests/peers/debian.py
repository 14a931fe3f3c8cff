"""Programs that only Debian's packages bring: unpacked into a folder, nothing is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.peers.installing import PeerUnavailableError, installed_peer, run_installer

__all__ = ["debian_package"]

_UPDATE_LIMIT_S = 300
_DOWNLOAD_LIMIT_S = 300


def debian_package(name: str) -> Path:
    """The root of a tree with what the package `name` holds, without what it depends on.

    Skips, or in CI fails, like `peer_environment`. Needs apt and dpkg, and no rights.
    """
    return installed_peer(f"debian-{name}", {"package": name}, lambda folder: _unpack(name, folder))


def _unpack(name: str, folder: Path) -> None:
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        raise PeerUnavailableError("it comes from Debian, and there is no apt here")
    lists, downloads = folder / "lists", folder / "downloads"
    for place in (lists, downloads):
        (place / "partial").mkdir(parents=True)
    # With lists of its own, this is nobody else's business and needs no root.
    apt = [
        "apt-get", "-q", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}",
        "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2",
    ]  # fmt: skip
    run_installer([*apt, "update"], _UPDATE_LIMIT_S)
    run_installer([*apt, "download", name], _DOWNLOAD_LIMIT_S, cwd=downloads)
    (package,) = downloads.glob("*.deb")
    run_installer(["dpkg-deb", "-x", str(package), str(folder)], _DOWNLOAD_LIMIT_S)
    shutil.rmtree(lists)
    shutil.rmtree(downloads)
