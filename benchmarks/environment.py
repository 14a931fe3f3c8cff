"""The virtual environment that the contenders live in, made on first use."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

__all__ = ["OUT", "REPOSITORY", "child_environment", "contenders_python", "peers_folder"]

REPOSITORY = Path(__file__).resolve().parents[1]
OUT = REPOSITORY / "benchmarks" / "out"
_REQUIREMENTS = REPOSITORY / "benchmarks" / "requirements.txt"


def contenders_python() -> Path:
    """The Python that has every contender and this project's dependencies.

    Raises SystemExit with pip's last lines when they cannot be installed.
    """
    folder = peers_folder() / "benchmarks"
    python = folder / "bin" / "python"
    marker = folder / "complete.txt"
    wanted = _digest()
    if marker.is_file() and marker.read_text("utf-8") == wanted:
        return python
    print(f"installing the contenders into {folder} …", file=sys.stderr)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "-r", str(_REQUIREMENTS)])
    _run([*pip, "-e", f"{REPOSITORY}[prometheus,otel]"])
    marker.write_text(wanted, "utf-8")
    return python


def child_environment(source: Path | None = None) -> dict[str, str]:
    """The environment of a measured process: no proxies, no keys, no colours.

    `source` is a folder with another `batch_gateway` than the working tree's.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    path = os.pathsep.join(str(folder) for folder in (source, REPOSITORY) if folder is not None)
    return {**kept, "PYTHONPATH": path, "OPENAI_API_KEY": "none", "NO_COLOR": "1"}


def peers_folder() -> Path:
    """Where environments of other programs are kept."""
    configured = os.environ.get("BATCH_GATEWAY_PEERS")
    return Path(configured).resolve() if configured else REPOSITORY / ".peers"


def _digest() -> str:
    digest = hashlib.sha256(sys.version.encode())
    digest.update(_REQUIREMENTS.read_bytes())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    digest.update(repr((project["dependencies"], project["optional-dependencies"])).encode())
    return digest.hexdigest()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SystemExit("\n".join(["cannot install the contenders:", *lines[-5:]]))
