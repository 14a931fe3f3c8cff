"""The Compose file: one command brings up the fleet, and nothing of it beyond this machine."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.accepting import accepted_service, context_of
from tests.deploy.image_steps import DOCKERFILE, ROOT
from tests.peers.installing import peer_environment

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "batch-gateway"}


def problems(compose: object) -> str:
    python = peer_environment("compose-spec", ["compose-spec==0.2.1"])
    script = Path(__file__).parent / "manifests" / "of_compose.py"
    done = subprocess.run(
        [str(python), str(script)],
        input=json.dumps(compose),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.peer("compose-spec")
def test_the_specification_of_compose_knows_every_key() -> None:
    assert problems(COMPOSE) == ""
    misspelt = {**SERVICES, "api": {**SERVICES["api"], "comand": []}}
    assert "comand" in problems({**COMPOSE, "services": misspelt})
    lost = {**SERVICES, "postgres": {**SERVICES["postgres"], "networks": ["nowhere"]}}
    assert "nowhere" in problems({**COMPOSE, "services": lost})


def test_what_others_brought_has_a_version_and_what_is_ours_is_built_here() -> None:
    for one in SERVICES.values():
        if one not in OURS.values():
            assert one["image"].rpartition(":")[2].startswith(tuple("123456789"))
            continue
        build = one["build"]
        context = (FILE.parent / build["context"]).resolve()
        assert context / build["dockerfile"] == DOCKERFILE


def test_nothing_of_ours_may_do_more_than_it_needs_to() -> None:
    assert OURS.keys() == {"api", "worker", "simulator"}
    for one in OURS.values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]


def test_only_this_machine_reaches_it() -> None:
    published = [port for one in SERVICES.values() for port in one.get("ports", [])]
    assert published == ["127.0.0.1:8080:8080"]


def test_workers_can_be_scaled() -> None:
    # Two containers can have neither one name nor one port.
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()


def test_a_container_starts_when_what_it_needs_is_there() -> None:
    for one in SERVICES.values():
        for name, condition in one.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[name]


def default_of(text: str) -> str:
    """`${NAME:-default}` where nobody has set anything."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_program_takes_what_every_container_starts_it_with() -> None:
    for name in ("api", "worker"):
        variables = {one: default_of(text) for one, text in OURS[name]["environment"].items()}
        service = accepted_service(OURS[name]["command"], variables)
        assert service.role == name
        assert service.server["host"] == "0.0.0.0"
        assert service.records.database == "postgresql://batches:batches@postgres/batches"
        assert service.store is not None
        assert service.store.endpoint == "http://seaweedfs:8333"
    simulator = context_of(OURS["simulator"]["command"]).params
    assert OURS["api"]["environment"]["BATCH_GATEWAY_URL"].endswith(f":{simulator['port']}}}")
