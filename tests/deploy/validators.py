"""Manifests before the schemas of those who will read them, strictly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.deploy.rendering import Manifest
from tests.peers.installing import peer_environment
from tests.peers.node_packages import node_with

__all__ = ["OPERATORS", "problems"]

OPERATORS = {"HTTPRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
"""The kinds that are not Kubernetes' own."""

_SCRIPTS = Path(__file__).parent / "manifests"
_MODELS = [
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
]
_LIMIT_S = 120


def problems(objects: Sequence[Manifest], folder: Path, version: str = "1.37") -> list[str]:
    """What each is told by the schemas of its kind; `folder` is for whatever is needed for it."""
    own = [one for one in objects if one["kind"] not in OPERATORS]
    foreign = [one for one in objects if one["kind"] in OPERATORS]
    python = peer_environment("kubernetes-validate", ["kubernetes-validate==1.37.0"])
    found = _said([str(python), str(_SCRIPTS / "of_kubernetes.py"), version], own)
    if foreign:
        script = folder / "of_operators.mjs"
        script.write_text((_SCRIPTS / script.name).read_text("utf-8"), "utf-8")
        found += _said([str(node_with("kubernetes-models", _MODELS, folder)), str(script)], foreign)
    return found


def _said(command: Sequence[str], objects: Iterable[Manifest]) -> list[str]:
    done = subprocess.run(
        command,
        input=json.dumps(list(objects)),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
