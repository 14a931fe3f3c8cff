"""The service on a disk of its own that becomes full: it waits, says so, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from batch_gateway.testing import simulated_gateway
from tests.commands_to_kill import times_received
from tests.engine.batch_files import request, text_of
from tests.server.served_folder import a_served_folder, until

LINES = 400
CONCURRENCY = 8


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of the service, which is all of a file system of 6 MiB."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount a file system can fill it")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_batches_wait_for_room_across_a_restart_and_every_line_ends_once(
    tmp_path: Path, disk: Path
) -> None:
    lines = text_of(request(f"id-{n}") for n in range(LINES))
    with (
        simulated_gateway(latency_scale=0.5, output_tokens=20) as gateway,
        a_served_folder(tmp_path, gateway, "--shutdown-timeout", "1s") as service,
    ):
        with httpx2.Client(base_url=service.url) as http:
            batch_id = service.submit(http, lines)
            path = f"/v1/batches/{batch_id}"
            until(lambda: http.get(path).json()["request_counts"]["completed"] > 20)
            filler = _fill(disk)
            until(lambda: "room" in http.get(path).json().get("notice", ""))
            _check_that_it_says_so(http, batch_id, lines)
            assert list((disk / "files" / "unfinished").iterdir()) == []
            until(lambda: gateway.journal()["in_flight"] == 0)
            before = times_received(gateway)
        service.terminate()
        assert service.exit_code() == 0, service.log()
        service.start()
        with httpx2.Client(base_url=service.url) as http:
            until(lambda: "notice" in http.get(path).json())
            filler.unlink()
            until(lambda: http.get(path).json()["status"] == "completed")
            batch = http.get(path).json()
            output = http.get(f"/v1/files/{batch['output_file_id']}/content").text
        service.terminate()
        assert service.exit_code() == 0, service.log()
        received = times_received(gateway)
    assert "notice" not in batch
    assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    ids = [json.loads(line)["custom_id"] for line in output.splitlines()]
    assert sorted(ids) == sorted(f"id-{n}" for n in range(LINES))
    # It stops sending: what could not be stored is little, and alone is sent again.
    assert len(before) < LINES
    assert sum(received.values()) - LINES <= 20 * CONCURRENCY
    assert "Traceback" not in service.log()


def _check_that_it_says_so(http: httpx2.Client, batch_id: str, lines: bytes) -> None:
    form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", lines * 40)}}
    refused = http.post("/v1/files", **form)
    assert refused.status_code == 507
    assert "no room" in refused.json()["error"]["message"]
    for page in ("/", f"/batches/{batch_id}"):
        assert "o room left" in http.get(page).text or "No space left" in http.get(page).text
    listed = http.get("/v1/batches").json()["data"]
    assert [one["id"] for one in listed if one.get("notice")] == [batch_id]
