"""A gateway that is wrong from the first request on, and right later: batches go on."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from batch_gateway.testing import SimulatorConfig, simulated_gateway
from tests.engine.batch_files import request, text_of
from tests.server.served_folder import a_served_folder, until

LINES = 60


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status-500", "HTTP 500"),
        ("status-503", "HTTP 503"),
        ("status-401", "HTTP 401"),
        ("", "connection refused"),
    ],
)
def test_each_line_is_answered_once_and_the_notice_is_gone(
    tmp_path: Path, fault: str, said: str
) -> None:
    with simulated_gateway(SimulatorConfig.instant()) as gateway:
        if fault:
            gateway.set_faults({fault: 1.0})
        else:
            gateway.stop()
        with (
            a_served_folder(tmp_path, gateway) as service,
            httpx2.Client(base_url=service.url) as http,
        ):
            lines = text_of(request(f"c{number}") for number in range(LINES))
            path = f"/v1/batches/{service.submit(http, lines)}"
            until(lambda: said in (http.get(path).json().get("notice") or ""))
            if fault:
                gateway.set_faults({})
            else:
                gateway.start()
            until(lambda: http.get(path).json()["status"] == "completed")
            batch = http.get(path).json()
            service.terminate()
            assert service.exit_code() == 0, service.log()
        records = gateway.journal()["requests"].values()
    assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    assert "notice" not in batch
    assert [record["completed"] for record in records] == [1] * LINES
