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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["PeerUnavailableError", "install_peer", "peer_environment"]

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
    try:
        return install_peer(name, requirements, no_deps)
    except PeerUnavailableError as error:
        reason = f"peer {name} cannot be installed: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def install_peer(name: str, requirements: Sequence[str], no_deps: Sequence[str] = ()) -> Path:
    """As `peer_environment`, but raises PeerUnavailableError."""
    if name in _failures:
        raise _failures[name]
    folder = _cache_folder() / name
    python = folder / "bin" / "python"
    marker = folder / "complete.json"
    contents = _marker_contents(requirements, no_deps)
    if _is_complete(marker, contents):
        return python
    try:
        with _locked(folder.with_name(f"{name}.lock")):
            if not _is_complete(marker, contents):
                _install(folder, python, requirements, no_deps)
                marker.write_text(contents, "utf-8")
    except (OSError, PeerUnavailableError) as error:
        _failures[name] = PeerUnavailableError(str(error))
        raise _failures[name] from error
    return python


def _cache_folder() -> Path:
    configured = os.environ.get("BATCH_GATEWAY_PEERS")
    return Path(configured).resolve() if configured else _REPOSITORY / ".peers"


def _marker_contents(requirements: Sequence[str], no_deps: Sequence[str]) -> str:
    wanted = {"python": sys.version, "requirements": list(requirements), "no_deps": list(no_deps)}
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    return json.dumps({**wanted, "digest": digest}, indent=2)


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


def _install(
    folder: Path, python: Path, requirements: Sequence[str], no_deps: Sequence[str]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], _CREATE_LIMIT_S)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--retries", "2", "--prefer-binary"]
    if requirements:
        _run([*pip, *requirements], _INSTALL_LIMIT_S)
    if no_deps:
        _run([*pip, "--no-deps", *no_deps], _INSTALL_LIMIT_S)


def _run(command: list[str], limit: int) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailableError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise PeerUnavailableError(" / ".join(lines[-3:]) or f"exit code {done.returncode}")
