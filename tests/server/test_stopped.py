"""The service is told to stop while requests, transfers and pages hang: it is gone in its time."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from batch_gateway.durations import seconds
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.testing import simulated_gateway
from tests.commands_to_kill import times_received
from tests.engine.batch_files import request, text_of
from tests.server.served_folder import a_served_folder, until

STALLED = {"model": "fault-stall", "messages": [{"role": "user", "content": "x"}]}


def test_the_default_grace_is_within_what_kubernetes_gives_a_process() -> None:
    for config in (ServerConfig(), ProcessorConfig()):
        assert seconds(config.shutdown_timeout) <= 25


def test_what_hangs_is_cut_off_and_only_what_had_no_result_is_sent_again(tmp_path: Path) -> None:
    models = ("tiny", "fault-stall")
    lines = text_of(request(f"id-{n}", model=models[n % 2]) for n in range(12))
    with (
        simulated_gateway(output_tokens=1) as gateway,
        a_served_folder(tmp_path, gateway, "--shutdown-timeout", "500ms") as service,
        ExitStack() as hanging,
    ):
        http = hanging.enter_context(httpx2.Client(base_url=service.url))
        batch_id = service.submit(http, lines)
        until(lambda: http.get(f"/v1/batches/{batch_id}").json()["request_counts"]["completed"])
        until(lambda: gateway.journal()["in_flight"] == 6)
        _hang_on(hanging, service.url, http)
        service.terminate()
        assert service.exit_code() == 0, service.log()
        before = times_received(gateway)
        service.start()
        until(lambda: gateway.journal()["in_flight"] == 6)
        after = times_received(gateway)
        service.terminate()
        assert service.exit_code() == 0, service.log()
    assert sorted(after[one] - before[one] for one in before) == [0] * 6 + [1] * 6
    assert "Traceback" not in service.log()
    assert list((tmp_path / "data" / "files" / "unfinished").iterdir()) == []


def _hang_on(stack: ExitStack, url: str, http: httpx2.Client) -> None:
    """An upload that stalls, a download that nobody reads, and a page that waits for news."""
    form = {"data": {"purpose": "vision"}, "files": {"file": ("f", b"x" * 30_000_000)}}
    file = http.post("/v1/files", **form).json()
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
    head += "Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
    part = '--xyz\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf of it'
    download = f"GET /v1/files/{file['id']}/content HTTP/1.1\r\nHost: x\r\n\r\n"
    page = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
    where = urlsplit(url)
    for sent, expected in ((head + part, b""), (download, b"200 OK"), (page, b"200 OK")):
        connection = socket.create_connection((where.hostname, where.port))
        stack.enter_context(connection)
        connection.sendall(sent.encode())
        if expected:
            assert expected in connection.recv(4096)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    lines = text_of(request(f"id-{n}", body=STALLED) for n in range(4))
    with (
        simulated_gateway() as gateway,
        a_served_folder(tmp_path, gateway, "--shutdown-timeout", "1h") as service,
    ):
        with httpx2.Client(base_url=service.url) as http:
            service.submit(http, lines)
        until(lambda: gateway.journal()["in_flight"] == 4)
        service.terminate()
        until(lambda: "Stopping" in service.log())
        service.terminate()
        assert service.exit_code() != 0
