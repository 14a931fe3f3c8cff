"""`batch-gateway serve --config`: what its numbers come to at the gateway."""

from __future__ import annotations

import itertools
from pathlib import Path

import httpx2

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from batch_gateway.wire.lines import parse_line_id
from tests.engine.batch_files import request, text_of
from tests.server.served_folder import a_served_folder, until

LINES = 20
BATCHES = 3


def _run_batches(folder: Path, gateway: GatewayHandle, setting: str) -> None:
    """Until several batches, which were there at once, are complete."""
    config = folder / "serve.yaml"
    config.write_text(f"{setting}\n")
    flags = ("--concurrency", "auto", "--config", config)
    with (
        a_served_folder(folder, gateway, *flags) as service,
        httpx2.Client(base_url=service.url) as http,
    ):
        ids = [service.submit(http, _lines(batch)) for batch in range(BATCHES)]
        for one in ids:
            path = f"/v1/batches/{one}"
            until(lambda path=path: http.get(path).json()["status"] == "completed")
        service.terminate()
        assert service.exit_code() == 0, service.log()


def _lines(batch: int) -> bytes:
    return text_of(request(f"c{batch}-{number}") for number in range(LINES))


def test_never_more_are_in_flight_than_max_job_concurrency(tmp_path: Path) -> None:
    config = SimulatorConfig.small_gpu(seats=64, output_tokens=2, time_per_token=0.01)
    with simulated_gateway(config) as gateway:
        _run_batches(tmp_path, gateway, "max_job_concurrency: 3")
        journal = gateway.journal()
    assert journal["completed"] == LINES * BATCHES
    assert journal["peak_in_flight"] == 3


def test_with_one_worker_one_batch_is_run_at_a_time(tmp_path: Path) -> None:
    # Slow enough that all batches are there before the first is done.
    config = SimulatorConfig.small_gpu(seats=64, output_tokens=2, time_per_token=0.25)
    with simulated_gateway(config) as gateway:
        _run_batches(tmp_path, gateway, "num_workers: 1")
        requests = gateway.journal()["requests"]
    batches = [(parse_line_id(request_id) or ("",))[0] for request_id in requests]
    assert [len(list(same)) for _, same in itertools.groupby(batches)] == [LINES] * BATCHES
