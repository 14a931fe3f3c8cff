"""The service is killed and what it stored is damaged: each line still ends once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batch_gateway.testing import simulated_gateway
from tests.engine.batch_files import request, text_of
from tests.server.served_folder import ServedFolder, a_served_folder, until

LINES = 200


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _spoil])
def test_a_service_whose_files_were_damaged_while_it_was_down_makes_up_for_it(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    lines = text_of(request(f"id-{n}") for n in range(LINES))
    with (
        simulated_gateway(latency_scale=0.5, output_tokens=1) as gateway,
        a_served_folder(tmp_path, gateway) as service,
    ):
        with httpx2.Client(base_url=service.url) as http:
            batch_id = service.submit(http, lines)
            until(lambda: _batch(http, batch_id)["request_counts"]["completed"] > LINES / 4)
        os.kill(service.process, signal.SIGKILL)
        assert service.exit_code() == -signal.SIGKILL
        stored = tmp_path / "data" / "files" / "objects" / "batches" / batch_id
        found = [path for path in stored.rglob("*") if path.is_file()]
        assert len(found) > 1
        for path in found:
            damage(path)
        service.start()
        with httpx2.Client(base_url=service.url) as http:
            until(lambda: _batch(http, batch_id)["status"] == "completed")
            batch = _batch(http, batch_id)
            assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
            content = http.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
            assert len(content) == LINES
            assert len(set(content)) == LINES
        _stop(service)
    assert "is damaged or gone" in service.log()
    assert "the plan is made again" in service.log()
    assert "Traceback" not in service.log()


def _batch(http: httpx2.Client, batch_id: str) -> dict[str, Any]:
    return http.get(f"/v1/batches/{batch_id}").json()


def _stop(service: ServedFolder) -> None:
    service.terminate()
    assert service.exit_code() == 0, service.log()
