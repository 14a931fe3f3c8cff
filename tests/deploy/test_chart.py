"""The Helm chart: what it renders is what Kubernetes takes, and what the program does."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import trustme
import yaml
from prometheus_client import CollectorRegistry
from starlette.routing import Route, Router

from batch_gateway.durations import parse_duration
from batch_gateway.server.observability import observability_app
from batch_gateway.server.readiness import Ready
from batch_gateway.version import __version__
from tests.deploy.accepting import accepted_service, accepts_migration
from tests.deploy.chart_schema import CHART, SCHEMA, with_settings
from tests.deploy.image_steps import ROOT, stages
from tests.deploy.rendering import (
    VALUES_FILES,
    Manifest,
    containers,
    helm,
    of_kind,
    pods,
    rendered,
)
from tests.deploy.validators import problems

pytestmark = [pytest.mark.peer("helm"), pytest.mark.timeout(600)]

SMALL, EVERYTHING, KEDA, HPA = (
    CHART / "ci" / f"{name}-values.yaml" for name in ("small", "everything", "keda", "hpa")
)
METRICS = (ROOT / "docs" / "metrics.md").read_text("utf-8")
every_values_file = pytest.mark.parametrize("values", VALUES_FILES, ids=lambda path: path.stem)


def config_of(objects: list[Manifest]) -> Mapping[str, Any]:
    texts = [one["data"].get("config.yaml") for one in of_kind(objects, "ConfigMap")]
    return yaml.safe_load(next(text for text in texts if text))


@every_values_file
def test_helm_finds_no_fault_with_the_chart(values: Path) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@every_values_file
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_and_the_operators_know_every_field(
    values: Path, version: str, tmp_path: Path
) -> None:
    assert problems(rendered(values), tmp_path, version) == []


@pytest.mark.parametrize(
    ("kind", "misspell"),
    [
        ("Deployment", lambda spec: spec["template"]["spec"].update(hostname=["a"])),
        ("Deployment", lambda spec: spec["template"]["spec"]["containers"][0].update(comand=[])),
        ("NetworkPolicy", lambda spec: spec.update(egres=[])),
        ("ScaledObject", lambda spec: spec.update(minReplicas=1)),
        ("ScaledObject", lambda spec: spec["triggers"][0].pop("type")),
        ("HTTPRoute", lambda spec: spec["rules"][0]["backendRefs"][0].update(ports=80)),
        ("ServiceMonitor", lambda spec: spec["endpoints"][0].update(intervall="15s")),
        ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].update(expression="1")),
    ],
)
def test_a_field_that_nobody_knows_would_be_noticed(
    kind: str, misspell: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    values = KEDA if kind == "ScaledObject" else EVERYTHING
    one = copy.deepcopy(of_kind(rendered(values), kind)[0])
    misspell(one["spec"])
    assert problems([one], tmp_path) != []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("imagetag=1", "additional properties 'imagetag' not allowed"),
        ("api.replica=3", "'/api': additional properties 'replica' not allowed"),
        ("config.gatewey=http://x", "'/config': additional properties 'gatewey' not allowed"),
        ("config.api_key=sk-1", "'/config': additional properties 'api_key' not allowed"),
        ("config.database=sqlite", "'/config': additional properties 'database' not allowed"),
        ("config.model_gateways.m.api_key=sk-1", "'/config/model_gateways/m/api_key'"),
        ("api.replicas=two", "'/api/replicas': got string, want integer"),
        ("worker.autoscaling.kind=vpa", "'/worker/autoscaling/kind': value must be one of"),
        ("worker.scratch=8", "'/worker/scratch'"),
        ("store=ftp://x", "'/store'"),
        ("httpRoute.enabled=true", "'/httpRoute/parentRefs': minItems"),
        ("secret.variables.lower-case=x", "invalid propertyName 'lower-case'"),
        ("config.gateway=", "config.gateway: the URL of the inference gateway is needed"),
        ("store=", "store: where files are kept is needed"),
        ("secret.existing=null", "a Secret with BATCH_GATEWAY_DATABASE is needed"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(given: str, said: str) -> None:
    done = helm("template", "r", str(CHART), "--values", str(SMALL), "--set", given)
    assert done.returncode != 0
    assert said in done.stderr
    assert "sk-1" not in done.stderr


def test_the_settings_that_a_configuration_may_hold_are_those_of_the_program() -> None:
    text = SCHEMA.read_text("utf-8")
    assert text == with_settings(text), "python -m tests.documents.settings_page"


def test_every_value_is_described_by_the_schema_and_the_schema_says_nothing_else() -> None:
    def names(values: Any, schema: Mapping[str, Any], path: str = "") -> None:
        if "properties" not in schema or path == ".config":
            return
        assert set(schema["properties"]) - {"global"} == set(values), path
        for name, one in values.items():
            if isinstance(one, dict):
                names(one, schema["properties"][name], f"{path}.{name}")

    disregarded = {"resources", "podDisruptionBudget"}
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for role in ("api", "worker", "migration"):
        for name in disregarded & values[role].keys():
            values[role][name] = None
    names(values, json.loads(SCHEMA.read_text("utf-8")))


@every_values_file
def test_every_pod_may_do_the_least_that_it_can(values: Path) -> None:
    for pod in pods(rendered(values)).values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        user = next(step.text for step in stages()[-1] if step.name == "USER").split(":")
        ids = [spec["securityContext"][name] for name in ("runAsUser", "runAsGroup")]
        assert ids == [int(one) for one in user]
        for one in spec["containers"]:
            context = one["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert one["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in one["resources"]["limits"]
            # Whatever it writes has room there.
            assert "/tmp" in [mount["mountPath"] for mount in one["volumeMounts"]]


def test_what_is_secret_stands_in_secrets_alone() -> None:
    objects = rendered(EVERYTHING)
    given = yaml.safe_load(EVERYTHING.read_text("utf-8"))["secret"]["variables"]
    elsewhere = json.dumps([one for one in objects if one["kind"] != "Secret"])
    for value in given.values():
        assert value not in elsewhere
        assert base64.b64encode(value.encode()).decode() not in elsewhere
    for secret in of_kind(objects, "Secret"):
        kept = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
        assert kept == given


def test_the_job_that_migrates_runs_before_all_else_and_needs_nothing_of_the_release() -> None:
    objects = rendered(EVERYTHING)
    hooks = [one for one in objects if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    assert {(one["kind"], one["metadata"]["name"]) for one in hooks} == {
        ("Job", "batches-migration"),
        ("Secret", "batches-migration"),
    }
    spec = pods(hooks)["migration"]["spec"]
    named = {one["metadata"]["name"] for one in objects if one not in hooks}
    needed = [source["secretRef"]["name"] for source in spec["containers"][0]["envFrom"]]
    assert needed == ["bucket", "batches-migration"]
    assert named.isdisjoint(needed)
    assert "serviceAccountName" not in spec
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch"]


def paths_served() -> set[str]:
    async def nothing() -> None: ...

    async def ready() -> Ready:
        return Ready(True, "ok")

    app = observability_app(CollectorRegistry(), ready, nothing)
    assert isinstance(app, Router)
    return {route.path for route in app.routes if isinstance(route, Route)}


@every_values_file
def test_probes_ask_where_the_service_answers(values: Path) -> None:
    objects = rendered(values)
    config, served = config_of(objects), paths_served()
    for role in ("api", "worker"):
        [container] = pods(objects)[role]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["observability"] == config["observability_port"]
        assert ports.get("api", config["port"]) == config["port"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == "observability"
            assert asked["path"] in served
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    for monitor in of_kind(objects, "ServiceMonitor"):
        assert {one["path"] for one in monitor["spec"]["endpoints"]} <= served


@every_values_file
def test_a_pod_has_longer_to_stop_than_the_service_takes(values: Path) -> None:
    objects = rendered(values)
    asked = parse_duration(config_of(objects)["shutdown_timeout"])
    for role in ("api", "worker"):
        spec = pods(objects)[role]["spec"]
        hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {})
        pause = hook.get("sleep", {}).get("seconds", 0)
        assert spec["terminationGracePeriodSeconds"] >= pause + asked + 5


@every_values_file
def test_an_update_takes_no_pod_away_before_another_is_ready(values: Path) -> None:
    for deployment in of_kind(rendered(values), "Deployment"):
        update = deployment["spec"]["strategy"]["rollingUpdate"]
        assert update["maxUnavailable"] == 0
        assert update["maxSurge"]


@pytest.mark.parametrize(
    "changed", ["config.concurrency=7", "secret.variables.BATCH_GATEWAY_API_KEY=another"]
)
def test_new_settings_and_secrets_are_new_pods(changed: str) -> None:
    before, after = pods(rendered(EVERYTHING)), pods(rendered(EVERYTHING, "--set", changed))
    for role in ("api", "worker"):
        assert before[role]["metadata"] != after[role]["metadata"]
    assert pods(rendered(EVERYTHING))["api"] == before["api"]


@every_values_file
def test_whatever_selects_pods_finds_them(values: Path) -> None:
    objects = rendered(values)
    labels = [pod["metadata"]["labels"] for pod in pods(objects).values()]
    labels += [one["metadata"]["labels"] for one in of_kind(objects, "Service")]
    selectors = [one["spec"]["selector"] for one in of_kind(objects, "Service")]
    for kind in ("Deployment", "PodDisruptionBudget", "ServiceMonitor"):
        selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(objects, kind)]
    for one in of_kind(objects, "NetworkPolicy"):
        selectors.append(one["spec"]["podSelector"]["matchLabels"])
    for wanted in selectors:
        assert any(wanted.items() <= found.items() for found in labels), wanted


@pytest.mark.parametrize("values", [KEDA, HPA], ids=["keda", "hpa"])
def test_workers_are_scaled_by_a_gauge_that_the_service_has(values: Path) -> None:
    objects = rendered(values)
    [worker] = [one for one in of_kind(objects, "Deployment") if "replicas" not in one["spec"]]
    if values is KEDA:
        [scaler] = of_kind(objects, "ScaledObject")
        [trigger] = scaler["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        assert 'namespace="batches"' in query
        promql_parser.parse(query)
        names = re.findall(r"batch_\w+", query)
        assert trigger["metadata"]["threshold"] == "1000000"
    else:
        [scaler] = of_kind(objects, "HorizontalPodAutoscaler")
        [metric] = scaler["spec"]["metrics"]
        names = [metric["external"]["metric"]["name"]]
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert names
    assert all(f"| `{name}` |" in METRICS for name in names)


def test_alerts_and_dashboards_are_those_of_the_project() -> None:
    objects = rendered(EVERYTHING)
    [rules] = of_kind(objects, "PrometheusRule")
    alerts = ROOT / "deploy" / "prometheus" / "alerts.yaml"
    assert rules["spec"] == yaml.safe_load(alerts.read_text("utf-8"))
    shown = [
        json.loads(text)
        for one in of_kind(objects, "ConfigMap")
        for name, text in one["data"].items()
        if name.endswith(".json")
    ]
    ours = [json.loads(path.read_text("utf-8")) for path in ROOT.glob("deploy/grafana/*.json")]
    assert sorted(one["uid"] for one in shown) == sorted(one["uid"] for one in ours)
    assert all(one in ours for one in shown)


def test_the_longest_name_of_a_release_still_gives_names_that_kubernetes_takes() -> None:
    for one in rendered(EVERYTHING, "--set", "fullnameOverride=", name="r" * 53):
        assert len(one["metadata"]["name"]) <= 63 or one["kind"] == "ConfigMap"


def test_one_tells_where_the_service_is_and_that_whoever_reaches_it_may_use_it() -> None:
    open_to_all = helm("install", "r", str(CHART), "--dry-run=client", "--values", str(SMALL))
    assert "set config.api_keys" in open_to_all.stdout
    with_keys = helm("install", "r", str(CHART), "--dry-run=client", "--values", str(EVERYTHING))
    assert "batch-gateway keys create" in with_keys.stdout
    assert "https://127.0.0.1:8080/v1" in with_keys.stdout


@every_values_file
def test_every_image_is_the_one_that_was_asked_for(values: Path) -> None:
    wanted = f"batch-gateway:{__version__}"
    if values == EVERYTHING:
        wanted = f"registry.example/batch-gateway@sha256:{'0' * 64}"
    assert {one["image"] for one in containers(rendered(values))} == {wanted}


def test_the_chart_is_of_the_version_that_the_program_is() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    job = (ROOT / "deploy" / "job" / "run" / "job.yaml").read_text("utf-8")
    assert f"image: batch-gateway:{__version__}\n" in job


# What a Secret that is there already may hold.
GIVEN = {
    "BATCH_GATEWAY_DATABASE": "postgresql://batches@postgres/batches",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "of-the-bucket",
}


def variables_of(objects: list[Manifest], container: Manifest) -> dict[str, str]:
    """Those of a container, with what a Secret of somebody else's would hold."""
    secrets = {one["metadata"]["name"]: one["data"] for one in of_kind(objects, "Secret")}
    found = dict(GIVEN)
    for source in container.get("envFrom", []):
        for name, text in secrets.get(source["secretRef"]["name"], {}).items():
            found[name] = base64.b64decode(text).decode()
    return found | {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


@every_values_file
def test_the_program_takes_what_every_pod_starts_it_with(values: Path, tmp_path: Path) -> None:
    objects = rendered(values)
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    text = yaml.safe_dump(config_of(objects)).replace("/etc/gateway", str(tmp_path))
    (tmp_path / "config.yaml").write_text(text)
    for role in ("api", "worker"):
        [container] = pods(objects)[role]["spec"]["containers"]
        variables = variables_of(objects, container)
        service = accepted_service(container["args"], variables, tmp_path / "config.yaml")
        assert service.role == role
        assert service.records.database is not None
        assert service.store is not None
        # What is written there is gone with the pod, and nothing else can be written to.
        assert service.records.data.is_relative_to("/tmp")
        assert service.server["host"] == "0.0.0.0"
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["args"][-1] in mounted
        for name in ("tls_certificate", "tls_key"):
            if role == "api" and name in service.server:
                assert str(Path(service.server[name]).parent) in mounted
    if "migration" in pods(objects):
        [container] = pods(objects)["migration"]["spec"]["containers"]
        assert accepts_migration(container["args"], variables_of(objects, container))
