"""The Dockerfile, read, and its building stage carried out in a folder instead of an image."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.installing import run_installer

__all__ = ["DOCKERFILE", "ROOT", "Step", "build_in", "stages"]

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
_LIMIT_S = 300
# Where the building stage writes, which a test puts below a folder of its own.
_PLACES = re.compile(r"(?<![\w.])/(?=opt/|source\b)")


@dataclass(frozen=True)
class Step:
    """An instruction; `words` are those of its list in JSON, or else of its text."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return json.loads(self.text) if self.text.startswith("[") else self.text.split()


def stages() -> list[list[Step]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[Step]] = []
    for step in _steps():
        if step.name == "FROM":
            found.append([])
        if found:
            found[-1].append(step)
    return found


def build_in(folder: Path) -> None:
    """Carry out what the first stage copies and runs. Raises PeerUnavailableError."""
    # Its tools are those of whoever runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    folder.mkdir(parents=True)
    for step in stages()[0]:
        if step.name == "COPY":
            *sources, target = _placed(step.text, folder).split()
            _copy(sources, Path(target), into=target.endswith("/"))
        elif step.name == "RUN":
            command = _placed(step.text, folder).replace(" -o 65532 -g 65532", "")
            run_installer(["env", f"PATH={path}", "sh", "-c", command], _LIMIT_S)


def _copy(sources: list[str], target: Path, *, into: bool) -> None:
    for source in sources:
        to = target / Path(source).name if into else target
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, to)


def _placed(text: str, folder: Path) -> str:
    return _PLACES.sub(f"{folder}/", text)


def _steps() -> Iterator[Step]:
    lines = DOCKERFILE.read_text("utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        if line.strip() and not line.startswith("#"):
            name, _, text = line.partition(" ")
            yield Step(name, text.strip())
