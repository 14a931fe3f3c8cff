"""`batch-gateway serve --store s3://…`: what holds on a folder, and a store that goes away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batch_gateway.storage.from_url import connect
from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.commands_to_kill import commands, times_received
from tests.engine.batch_files import request, text_of
from tests.peers.object_stores import S3_KEYS, Seaweed, running_seaweed
from tests.server.served_folder import ServedFolder, a_served_folder, until

pytestmark = [pytest.mark.peer("seaweedfs"), pytest.mark.serves_a_module]

LINES = 800
MODELS = ("tiny", "tiny", "fault-status-400")


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayHandle]:
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)
    with simulated_gateway(latency_scale=0.5, output_tokens=1) as gateway:
        yield gateway


def lines(count: int) -> bytes:
    return text_of(request(f"id-{n}", model=MODELS[n % len(MODELS)]) for n in range(count))


def names_in(store: Any) -> list[str]:
    return [one["path"] for one in store.list().collect()]


class Batch:
    """A batch of the service, which may be away, started again, or elsewhere."""

    def __init__(self, service: ServedFolder, text: bytes) -> None:
        self._service = service
        with self.http() as http:
            self.id = service.submit(http, text)

    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self._service.url, timeout=60)

    def now(self) -> dict[str, Any]:
        with self.http() as http:
            return http.get(f"/v1/batches/{self.id}").json()

    def done(self) -> int:
        counts = self.now()["request_counts"]
        return counts["completed"] + counts["failed"]

    def ended(self) -> dict[str, Any]:
        until(lambda: self.now()["status"] in {"completed", "failed", "cancelled", "expired"})
        return self.now()

    def results(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        batch = self.ended()
        with self.http() as http:
            texts = [
                http.get(f"/v1/files/{batch[name]}/content").content
                for name in ("output_file_id", "error_file_id")
            ]
        output, errors = ([json.loads(line) for line in text.splitlines()] for text in texts)
        return output, errors


def check(batch: Batch, count: int) -> None:
    """Each line has one result, and they are what is counted."""
    ended = batch.ended()
    output, errors = batch.results()
    assert ended["status"] == "completed", ended["errors"]
    assert ended["request_counts"] == {
        "total": count,
        "completed": len(output),
        "failed": len(errors),
    }
    found = Counter(line["custom_id"] for line in output + errors)
    assert found == Counter(f"id-{n}" for n in range(count))


def test_a_service_in_a_bucket_serves_what_it_was_given_and_leaves_nothing(
    tmp_path: Path, seaweed: Seaweed, gateway: GatewayHandle
) -> None:
    text = lines(600)
    at = seaweed.store_url("first/of it")
    with a_served_folder(tmp_path, gateway, "--store", at) as service:
        batch = Batch(service, text)
        check(batch, 600)
        with batch.http() as http:
            given = batch.now()["input_file_id"]
            whole = http.get(f"/v1/files/{given}/content")
            assert whole.content == text
            tag = whole.headers["etag"]
            part = http.get(
                f"/v1/files/{given}/content", headers={"range": "bytes=100-299", "if-range": tag}
            )
            assert (part.status_code, part.content) == (206, text[100:300])
            known = http.get(f"/v1/files/{given}/content", headers={"if-none-match": tag})
            assert known.status_code == 304
            store = connect(seaweed.address("first/of it"), S3_KEYS)
            until(lambda: not any(name.startswith("batches/") for name in names_in(store)))
            assert len(names_in(store)) == 4
            for file in http.get("/v1/files").json()["data"]:
                assert http.delete(f"/v1/files/{file['id']}").json()["deleted"]
            assert names_in(store) == ["identity"]
        service.terminate()
        assert service.exit_code() == 0
        assert "s3cret" not in service.log()
        left = {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()}
        assert left == {"lock", "records.sqlite3", "records.sqlite3.lock"}


def test_a_store_that_is_killed_and_comes_back_ends_no_batch(
    tmp_path: Path, seaweed: Seaweed, gateway: GatewayHandle
) -> None:
    with a_served_folder(tmp_path, gateway, "--store", seaweed.store_url("killed")) as service:
        batch = Batch(service, lines(LINES))
        until(lambda: batch.done() > 100)
        seaweed.kill()
        until(lambda: "the store does not answer" in batch.now().get("notice", ""))
        assert batch.done() < LINES
        with batch.http() as http:
            given = batch.now()["input_file_id"]
            refused = http.get(f"/v1/files/{given}/content")
            assert refused.status_code == 503
            assert "127.0.0.1" not in refused.text
        seaweed.start()
        check(batch, LINES)
        assert "notice" not in batch.now()
        # Nothing crashed but the store: what was answered was not asked again.
        assert max(times_received(gateway).values()) == 1
        said = [line for line in service.log().splitlines() if "store of files" in line]
        assert "cannot be used" in said[0]
        assert "the store of files is back after" in said[-1]
        assert len(set(said)) == len(said) <= 6
        service.terminate()
        assert service.exit_code() == 0


def test_a_service_that_is_killed_while_its_store_hangs_goes_on_when_both_are_back(
    tmp_path: Path, seaweed: Seaweed, gateway: GatewayHandle
) -> None:
    with a_served_folder(tmp_path, gateway, "--store", seaweed.store_url("paused")) as service:
        batch = Batch(service, lines(LINES))
        until(lambda: batch.done() > 100)
        seaweed.pause()
        stands = [batch.done(), -1]
        while stands[0] != stands[1]:
            time.sleep(0.5)
            stands = [batch.done(), stands[0]]
        os.kill(service.process, signal.SIGKILL)
        service.exit_code()
        seaweed.go_on()
        service.start()
        check(batch, LINES)
        service.terminate()
        assert service.exit_code() == 0


def test_a_service_that_is_told_to_stop_while_its_store_hangs_stops(
    tmp_path: Path, seaweed: Seaweed, gateway: GatewayHandle
) -> None:
    flags = ("--store", seaweed.store_url("stopped"), "--shutdown-timeout", "3s")
    with a_served_folder(tmp_path, gateway, *flags) as service:
        batch = Batch(service, lines(LINES))
        until(lambda: batch.done() > 100)
        seaweed.pause()
        service.terminate()
        assert service.exit_code() == 0
        seaweed.go_on()
        service.start()
        check(batch, LINES)
        service.terminate()
        assert service.exit_code() == 0


def test_a_service_does_not_start_with_a_bucket_that_it_cannot_use(
    tmp_path: Path, seaweed: Seaweed, gateway: GatewayHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HIDDEN")
    with commands(tmp_path) as run:
        run.start("serve", "--gateway", gateway.url, "--store", seaweed.store_url("x"))
        assert run.exit_code() == 2
    said = (tmp_path / "log").read_text()
    assert "s3://batches/x cannot be written to: the store does not know these keys" in said
    assert "HIDDEN" not in said
    assert "Traceback" not in said


def test_a_service_does_not_start_with_another_bucket_than_its_files_are_in(
    tmp_path: Path, seaweed: Seaweed, gateway: GatewayHandle
) -> None:
    own = seaweed.store_url("own")
    with a_served_folder(tmp_path, gateway, "--store", own) as service:
        service.terminate()
        assert service.exit_code() == 0
    with commands(tmp_path) as run:
        flags = ("--data", tmp_path / "data", "--store", seaweed.store_url("other"))
        run.start("serve", "--gateway", gateway.url, *flags)
        assert run.exit_code() == 2
        said = (tmp_path / "log").read_text()
        assert "--store: the files of " in said
        assert " are in s3://batches/own, and not in s3://batches/other. Give every" in said
        run.start("serve", "--gateway", gateway.url, "--data", tmp_path / "new", "--store", own)
        assert run.exit_code() == 2
        assert (
            "s3://batches/own has the files of another database" in (tmp_path / "log").read_text()
        )
