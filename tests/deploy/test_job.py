"""The Job of a plain run: Kubernetes takes it, and it ends as the program's exit codes say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.testing import SimulatorConfig, simulated_gateway
from tests.deploy.image_steps import ROOT
from tests.deploy.rendering import Manifest, kustomized, of_kind, pods
from tests.deploy.validators import problems

pytestmark = [pytest.mark.peer("helm"), pytest.mark.timeout(600)]

PLAIN, FROM_S3 = ROOT / "deploy" / "job" / "run", ROOT / "deploy" / "job" / "from-s3"


def job_of(folder: Path) -> Manifest:
    return of_kind(kustomized(folder), "Job")[0]


def run_in(pod: Manifest) -> Manifest:
    [container] = pod["spec"]["containers"]
    return container


@pytest.mark.parametrize("folder", [PLAIN, FROM_S3], ids=lambda path: path.name)
def test_kubernetes_knows_every_field_of_the_job(folder: Path, tmp_path: Path) -> None:
    assert problems(kustomized(folder), tmp_path) == []


def test_each_exit_code_of_the_program_ends_the_job_is_tried_again_or_counts_for_nothing() -> None:
    spec = job_of(PLAIN)["spec"]
    by_action: dict[str, set[int]] = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {"values": [], "operator": "In"})
        assert codes["operator"] == "In"
        by_action.setdefault(rule["action"], set()).update(codes["values"])
    assert by_action == {
        "Ignore": {ExitCode.INTERRUPTED},
        "FailJob": {ExitCode.SOME_FAILED, ExitCode.BAD_INPUT, ExitCode.CONDITION_HOLDS},
    }
    again = set(ExitCode) - {ExitCode.SUCCEEDED}.union(*by_action.values())
    assert again == {
        ExitCode.GATEWAY_UNUSABLE,
        ExitCode.NOT_WRITTEN,
        ExitCode.INTERNAL_ERROR,
    }
    assert spec["backoffLimit"] > 0
    # Which Kubernetes asks of a policy by exit codes.
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"


def test_results_are_on_the_volume_that_outlives_a_pod() -> None:
    spec = job_of(PLAIN)["spec"]["template"]["spec"]
    container = spec["containers"][0]
    [claimed] = [one["name"] for one in spec["volumes"] if "persistentVolumeClaim" in one]
    mount = next(one for one in container["volumeMounts"] if one["name"] == claimed)["mountPath"]
    output = next(one for one in container["args"] if one.startswith("--output="))
    assert output.removeprefix("--output=").startswith(f"{mount}/")
    assert container["args"][1].startswith(f"{mount}/")
    fetch = job_of(FROM_S3)["spec"]["template"]["spec"]["initContainers"][0]
    assert fetch["args"][-1] == container["args"][1]


def test_what_the_job_runs_does_the_file_and_the_same_again_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    with (ROOT / "examples" / "requests.jsonl").open() as lines:
        (tmp_path / "requests.jsonl").write_text("".join(next(lines) for _ in range(20)))
    arguments = run_in(pods(kustomized(PLAIN))["run"])["args"]
    program = shutil.which("batch-gateway", path=str(Path(sys.executable).parent))
    assert program is not None
    with simulated_gateway(SimulatorConfig.instant()) as gateway:
        placed = [
            one.replace("/data/", f"{tmp_path}/").replace("http://llm-d:8000", gateway.url)
            for one in arguments
        ]
        command = [program, *placed, "--metrics-port=0", "--json"]
        for sent in (20, 0):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == ExitCode.SUCCEEDED, done.stderr
            assert json.loads(done.stdout)["finished_now"] == sent
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 20
