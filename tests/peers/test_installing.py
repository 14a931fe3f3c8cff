"""The installer of peers: what it keeps, and what it says when it cannot install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.installing import install_peer, peer_environment


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package on disk that needs nothing from a registry, not even a build backend."""
    wheel = tmp_path / "quiet_peer-1.0-py3-none-any.whl"
    script = (
        "import sys, zipfile\n"
        "with zipfile.ZipFile(sys.argv[1], 'w') as z:\n"
        "    d = 'quiet_peer-1.0.dist-info/'\n"
        "    z.writestr('quiet_peer.py', 'ANSWER = 42')\n"
        "    z.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: quiet-peer\\n"
        "Version: 1.0\\n')\n"
        "    z.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
        "Tag: py3-none-any\\n')\n"
        "    z.writestr(d + 'RECORD', '')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(wheel)], check=True, timeout=30)
    return wheel


def test_a_peer_is_installed_once_and_then_reused(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_GATEWAY_PEERS", str(tmp_path / "peers"))
    python = install_peer("quiet", [str(package)])
    shown = subprocess.run(
        [str(python), "-c", "import quiet_peer; print(quiet_peer.ANSWER)"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert shown.stdout.strip() == b"42"
    package.unlink()
    assert install_peer("quiet", [str(package)]) == python


def test_a_peer_that_cannot_be_installed_skips_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_GATEWAY_PEERS", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    missing = str(tmp_path / "absent-1.0-py3-none-any.whl")
    reason = r"peer nowhere cannot be installed: .*absent-1\.0"
    with pytest.raises(pytest.skip.Exception, match=reason):
        peer_environment("nowhere", [missing])
    assert not (tmp_path / "nowhere" / "complete.json").exists()
    with pytest.raises(pytest.skip.Exception, match=reason):
        peer_environment("nowhere", [missing])


def test_in_ci_a_peer_that_cannot_be_installed_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    monkeypatch.setenv("BATCH_GATEWAY_PEERS", str(not_a_folder))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="peer unwritable cannot be installed"):
        peer_environment("unwritable", [])
