"""A release at work: what the chart starts, started as processes on real peers."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
import yaml

from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.deploy.chart_schema import CHART
from tests.deploy.rendering import Manifest, of_kind, pods, rendered
from tests.peers.object_stores import S3_KEYS, Seaweed, running_seaweed
from tests.peers.postgres import PostgresServer
from tests.peers.processes import accepts_connections, free_port, running_process

pytestmark = [pytest.mark.peer("helm"), pytest.mark.timeout(600)]

SMALL = CHART / "ci" / "small-values.yaml"
LINES = 400
PATIENCE = 120.0


@dataclass
class Release:
    """The objects of a release, and the processes of its pods on this machine."""

    objects: list[Manifest]
    folder: Path
    secret: dict[str, str]
    running: ExitStack = field(default_factory=ExitStack)

    def command(self, pod: str) -> list[str]:
        [container] = pods(self.objects)[pod]["spec"]["containers"]
        [source] = container["envFrom"]
        assert source["secretRef"]["name"].startswith("release-batch-gateway")
        config = self.folder / "config.yaml"
        words = [str(config) if one.endswith("/config.yaml") else one for one in container["args"]]
        return [sys.executable, "-m", "batch_gateway", *words]

    def start(self, pod: str, port: int = 0) -> subprocess.Popen[bytes]:
        """A process of the pod, ready; on this machine each has ports and a folder of its own."""
        observed = free_port()
        own = self.folder / f"{pod}-{observed}"
        flags = [f"--observability-port={observed}", f"--port={port}", f"--data={own}"]
        return self.running.enter_context(
            running_process(
                [*self.command(pod), "--host=127.0.0.1", *flags],
                is_ready=lambda: accepts_connections(observed),
                log=self.folder / f"{pod}-{observed}.log",
                env=self.secret,
                limit=60,
            )
        )

    def migrate(self) -> None:
        subprocess.run(
            self.command("migration"), env={**os.environ, **self.secret}, check=True, timeout=60
        )


def secret_of(objects: list[Manifest]) -> dict[str, str]:
    [own] = [one for one in of_kind(objects, "Secret") if "annotations" not in one["metadata"]]
    return {name: base64.b64decode(text).decode() for name, text in own["data"].items()}


@contextmanager
def released(gateway: str, database: str, store: str, folder: Path) -> Iterator[Release]:
    values = folder / "values.yaml"
    variables = {"BATCH_GATEWAY_DATABASE": database, **S3_KEYS}
    given = {
        "config": {"gateway": gateway, "concurrency": 8, "poll_interval": "200ms"},
        "store": store,
        "secret": {"variables": variables},
    }
    values.write_text(yaml.safe_dump(given))
    objects = rendered(values)
    [config] = of_kind(objects, "ConfigMap")
    (folder / "config.yaml").write_text(config["data"]["config.yaml"])
    release = Release(objects, folder, secret_of(objects))
    with release.running:
        yield release


def submitted(sdk: openai.OpenAI, lines: int) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    text = "".join(
        json.dumps(
            {"custom_id": f"c{one}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        )
        + "\n"
        for one in range(lines)
    )
    file = sdk.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return sdk.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id


def wait_until_done(sdk: openai.OpenAI, batch: str, *, lines: int) -> str:
    """Until that many have results; the status."""
    end = time.monotonic() + PATIENCE
    while True:
        found = sdk.batches.retrieve(batch)
        counts = found.request_counts
        if counts is not None and counts.completed + counts.failed >= lines:
            return found.status
        assert time.monotonic() < end, found
        time.sleep(0.05)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(latency_scale=0.02) as gateway:
        yield gateway


def test_a_batch_goes_on_through_the_update_of_a_release(
    gateway: GatewayHandle, postgres: PostgresServer, seaweed: Seaweed, tmp_path: Path
) -> None:
    port = free_port()
    with (
        released(
            gateway.url, postgres.new_database(), seaweed.store_url("release"), tmp_path
        ) as release,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any") as sdk,
    ):
        release.migrate()
        release.start("api", port)
        old = release.start("worker")
        batch = submitted(sdk, LINES)
        wait_until_done(sdk, batch, lines=20)
        # As a rolling update has it: another is ready before one stops.
        release.start("worker")
        old.send_signal(signal.SIGTERM)
        assert old.wait(60) == 0
        assert wait_until_done(sdk, batch, lines=20) not in {"failed", "expired", "cancelled"}
        wait_until_done(sdk, batch, lines=LINES)
        while (done := sdk.batches.retrieve(batch)).status != "completed":
            time.sleep(0.05)
        assert done.output_file_id is not None
        results = sdk.files.content(done.output_file_id).text.splitlines()
    ids = [json.loads(line)["custom_id"] for line in results]
    assert sorted(ids) == sorted(f"c{one}" for one in range(LINES))
    # What was under way had its time to end, so that nothing was sent again.
    sent = gateway.journal()["requests"]
    assert len(sent) == LINES
    assert all(one["completed"] == 1 for one in sent.values())
