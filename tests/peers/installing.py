"""Real peers, installed on demand: each in a virtual environment of its own, kept between runs.

They stay out of the project's environment because they are large, and because their pins are
nobody else's business.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = [
    "PeerUnavailableError",
    "install_peer",
    "installed_peer",
    "peer_environment",
    "run_installer",
]

_REPOSITORY = Path(__file__).resolve().parents[2]
_INSTALL_LIMIT_S = 900
_CREATE_LIMIT_S = 180

# One attempt a test process: without a network the second test should not wait again.
_failures: dict[str, PeerUnavailableError] = {}


class PeerUnavailableError(Exception):
    """A peer could not be installed; the message says why, in a line or two."""


def peer_environment(name: str, requirements: list[str], no_deps: Sequence[str] = ()) -> Path:
    """The Python of a virtual environment that holds `requirements`.

    `no_deps` are requirements installed without what they depend on. When installing fails the
    test is skipped with the reason; where CI=true it fails, so that a peer cannot go missing
    unseen.
    """
    with _told_to_the_test(name):
        return install_peer(name, requirements, no_deps)


def installed_peer(
    name: str, contents: Mapping[str, object], install: Callable[[Path], None]
) -> Path:
    """A folder that `install` has filled with `contents`; skips or fails likewise."""
    with _told_to_the_test(name):
        return _kept(name, contents, install)


def install_peer(name: str, requirements: Sequence[str], no_deps: Sequence[str] = ()) -> Path:
    """As `peer_environment`, but raises PeerUnavailableError."""
    contents = {
        "python": sys.version,
        "requirements": list(requirements),
        "no_deps": list(no_deps),
    }
    folder = _kept(name, contents, lambda folder: _install(folder, requirements, no_deps))
    return folder / "bin" / "python"


@contextmanager
def _told_to_the_test(name: str) -> Iterator[None]:
    try:
        yield
    except PeerUnavailableError as error:
        reason = f"peer {name} cannot be installed: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def _kept(name: str, contents: Mapping[str, object], install: Callable[[Path], None]) -> Path:
    """The peer's folder, filled by `install` unless an earlier run did that."""
    if name in _failures:
        raise _failures[name]
    folder = _cache_folder() / name
    marker = folder / "complete.json"
    written = _marker_contents(contents)
    if _is_complete(marker, written):
        return folder
    try:
        with _locked(folder.with_name(f"{name}.lock")):
            if not _is_complete(marker, written):
                shutil.rmtree(folder, ignore_errors=True)
                install(folder)
                marker.write_text(written, "utf-8")
    except (OSError, PeerUnavailableError) as error:
        _failures[name] = PeerUnavailableError(str(error))
        raise _failures[name] from error
    return folder


def _cache_folder() -> Path:
    # Programs in it name its interpreter, so that a link which leads here must not be in the name.
    return Path(os.environ.get("BATCH_GATEWAY_PEERS") or _REPOSITORY / ".peers").resolve()


def _marker_contents(contents: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return json.dumps({**contents, "digest": digest}, indent=2)


def _is_complete(marker: Path, contents: str) -> bool:
    try:
        return marker.read_text("utf-8") == contents
    except OSError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One installer at a time; the kernel frees the lock of a process that dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _install(folder: Path, requirements: Sequence[str], no_deps: Sequence[str]) -> None:
    # A tenth of the time of venv and pip, which is minutes for all peers of a fresh clone.
    uv = [sys.executable, "-m", "uv"]
    run_installer(
        [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], _CREATE_LIMIT_S
    )
    install = [*uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    if requirements:
        run_installer([*install, *requirements], _INSTALL_LIMIT_S)
    if no_deps:
        run_installer([*install, "--no-deps", *no_deps], _INSTALL_LIMIT_S)


def run_installer(command: list[str], limit: int, cwd: Path | None = None) -> None:
    """Raises PeerUnavailableError with what it said last."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
            cwd=cwd,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailableError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise PeerUnavailableError(" / ".join(lines[-3:]) or f"exit code {done.returncode}")
