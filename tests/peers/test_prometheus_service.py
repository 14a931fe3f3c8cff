"""A real Prometheus that watches the service: every panel of its dashboard shows something."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from batch_gateway.testing import simulated_gateway
from tests.peers.processes import accepts_connections, free_port, running_process
from tests.peers.watching_prometheus import Prometheus, targets_of, watching

pytestmark = pytest.mark.peer("prometheus")

TARGETS = targets_of("service.json")
LIMIT_S = 60.0
ENDED = {"completed", "failed", "cancelled", "expired"}


@contextmanager
def serving(folder: Path, gateway: str) -> Iterator[tuple[openai.OpenAI, str]]:
    """A service on its own, a client of it, and where its metrics are."""
    api, observed = free_port(), free_port()
    command = [sys.executable, "-m", "batch_gateway", "serve", "--gateway", gateway]
    command += ["--data", str(folder / "data"), "--port", str(api)]
    command += ["--observability-port", str(observed)]
    with (
        running_process(
            command, is_ready=lambda: accepts_connections(api), log=folder / "serve.log"
        ),
        openai.OpenAI(base_url=f"http://127.0.0.1:{api}/v1", api_key="any") as sdk,
    ):
        yield sdk, f"http://127.0.0.1:{observed}/metrics"


def submit(sdk: openai.OpenAI, models: list[str], window: str = "24h") -> str:
    lines = [
        json.dumps(
            {
                "custom_id": f"c{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": model, "messages": [{"role": "user", "content": "Hello!"}]},
            }
        )
        for number, model in enumerate(models)
    ]
    file = sdk.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    return sdk.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window=window,  # pyright: ignore[reportArgumentType]
    ).id


def wait(sdk: openai.OpenAI, batch_id: str, until: Container[str] = ENDED) -> None:
    end = time.monotonic() + LIMIT_S
    while sdk.batches.retrieve(batch_id).status not in until:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen batches end in several ways, twice, and one that goes on."""
    folder = tmp_path_factory.mktemp("service")
    with (
        simulated_gateway(latency_scale=0.01) as simulator,
        serving(folder, simulator.url) as (sdk, metrics_url),
        watching(metrics_url, folder) as prometheus,
    ):
        submit(sdk, ["m"] * 5 + ["fault-stall"] * 2)
        for burst in (1, 2):
            wait(sdk, submit(sdk, ["m"] * 20 + ["fault-status-400", "fault-status-503;times=1"]))
            given_up = submit(sdk, ["fault-stall"])
            # One that is cancelled before its turn never comes to the processor, which counts.
            wait(sdk, given_up, {"in_progress"})
            sdk.batches.cancel(given_up)
            wait(sdk, given_up)
            with pytest.raises(openai.NotFoundError):
                sdk.batches.retrieve("batch_none")
            done = f"sum(jobs_processed_total) == {2 * burst}"
            prometheus.wait_for(lambda seen=done: prometheus.values(seen), f"burst {burst}")
        yield prometheus


@pytest.mark.parametrize(("panel", "expression"), TARGETS, ids=[name for name, _ in TARGETS])
def test_every_panel_shows_something(prometheus: Prometheus, panel: str, expression: str) -> None:
    prometheus.wait_for(lambda: prometheus.values(expression), panel)


def test_the_models_of_the_dashboard_have_names(prometheus: Prometheus) -> None:
    models = prometheus.ask("label/model/values", **{"match[]": "model_inflight_requests"})
    assert {"m", "fault-stall"} <= set(models)


def test_every_scrape_and_every_rule_goes_well(prometheus: Prometheus) -> None:
    prometheus.expect_all_to_be_well()
