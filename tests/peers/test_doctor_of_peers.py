"""The doctor at servers that nobody here wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import batch_gateway
from tests.peers.foreign_servers import Place, running_server
from tests.peers.llama import Llama


@pytest.mark.peer("llama.cpp")
def test_a_llama_server_is_well_with_its_key_and_not_without(llama: Llama, tmp_path: Path) -> None:
    arguments = ["doctor", "--gateway", llama.url, "--json"]
    done = batch_gateway(*arguments, cwd=tmp_path, variables={"BATCH_GATEWAY_API_KEY": llama.key})
    (gateway,) = json.loads(done.stdout)["gateways"]
    found = {one["check"]: one["status"] for one in gateway["checks"]}
    assert (done.returncode, set(found.values()) <= {"ok", "note"}) == (0, True), done.stdout
    assert found.keys() >= {"connection", "models", "answer", "key", "streaming", "usage"}
    done = batch_gateway("doctor", "--gateway", llama.url, cwd=tmp_path)
    assert (done.returncode, "--api-key-file" in done.stdout) == (3, True), done.stdout


@pytest.fixture(scope="module", params=["nginx", "envoy"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with running_server(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.mark.peer("foreign servers")
def test_a_server_that_is_no_gateway_is_told(place: Place, tmp_path: Path) -> None:
    done = batch_gateway("doctor", "--gateway", place.base_url, "--model", "m", cwd=tmp_path)
    assert done.returncode in (1, 3), done.stdout
    assert "ok      connection" in done.stdout
    assert "→" in done.stdout
    assert "ok      models" not in done.stdout
