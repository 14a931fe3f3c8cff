"""Programs that only Debian's packages bring: unpacked into a folder, nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.peers.installing import PeerUnavailableError, installed_peer, run_installer

__all__ = ["debian_package"]

_UPDATE_LIMIT_S = 300
_DOWNLOAD_LIMIT_S = 300


def debian_package(name: str, *libraries: str) -> Path:
    """The root of a tree with what the package `name` holds, and of all that it depends on those
    whose names begin with one of `libraries`.

    Skips, or in CI fails, like `peer_environment`. Needs apt and dpkg, and no rights.
    """
    contents = {"package": name} | ({"libraries": libraries} if libraries else {})
    unpack = partial(_unpack, name, libraries)
    return installed_peer(f"debian-{name}", contents, unpack)


def _unpack(name: str, libraries: Sequence[str], folder: Path) -> None:
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        raise PeerUnavailableError("it comes from Debian, and there is no apt here")
    lists, downloads = folder / "lists", folder / "downloads"
    for place in (lists, downloads):
        (place / "partial").mkdir(parents=True)
    # With lists of its own, this is nobody else's business and needs no root.
    own = [
        "-q", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}",
        "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2",
    ]  # fmt: skip
    run_installer(["apt-get", *own, "update"], _UPDATE_LIMIT_S)
    names = [name, *_needed(name, libraries, own)]
    run_installer(["apt-get", *own, "download", *names], _DOWNLOAD_LIMIT_S, cwd=downloads)
    for package in downloads.glob("*.deb"):
        run_installer(["dpkg-deb", "-x", str(package), str(folder)], _DOWNLOAD_LIMIT_S)
    shutil.rmtree(lists)
    shutil.rmtree(downloads)


def _needed(name: str, libraries: Sequence[str], own: Sequence[str]) -> list[str]:
    """Which of the libraries the package depends on, under the names of this release."""
    asked = ["apt-cache", *own, "depends", "--important", name]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    packages = [line.removeprefix("  Depends: ") for line in told.splitlines()[1:]]
    return [one for one in packages if one.startswith(tuple(libraries))] if libraries else []
