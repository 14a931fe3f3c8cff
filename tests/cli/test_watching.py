"""Metrics and logs of the real command."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, environment, started, wait_until, write_batch


def records(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def test_metrics_are_served_while_the_run_goes_on(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "b.jsonl", ["good"] * 5 + ["fault-stall"])
    arguments = ["run", batch, "--gateway", gateway.url, "--metrics-port", "0"]
    with started(*arguments, cwd=tmp_path) as process:
        assert process.stderr is not None
        found = re.search(r"Metrics at (\S+)", process.stderr.readline())
        assert found is not None

        def scrape() -> str:
            with urllib.request.urlopen(found[1], timeout=10) as response:
                assert response.headers["Content-Type"].startswith("text/plain")
                return response.read().decode()

        wait_until(lambda: 'done{result="succeeded"} 5.0' in scrape(), "five lines are done")
        text = scrape()
        process.kill()
    assert "batch_gateway_run_lines 6.0" in text
    assert 'model="good",outcome="ok"} 5.0' in text
    assert f'batch_gateway_attempts_in_flight{{gateway="{gateway.url}"}} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_a_taken_port_is_an_error_before_anything_is_sent(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "b.jsonl", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = batch_gateway(
            "run", batch, "--gateway", gateway.url, "--metrics-port", str(port), cwd=tmp_path
        )
    assert done.returncode == 2
    assert f"--metrics-port: 127.0.0.1 port {port}: Address already in use" in done.stderr
    assert gateway.journal()["received"] == 0


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "b.jsonl", 1)
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from batch_gateway.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "run", str(batch), "--gateway", gateway.url]
    done = subprocess.run(
        [*command, "--otel"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'batch-gateway[otel]'" in done.stderr


_WITH_AN_SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)

from batch_gateway.cli.main import main

main()
"""


def test_requests_are_traced_by_the_sdk_that_is_set_up(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "b.jsonl", ["good"])
    arguments = ["run", str(batch), "--gateway", gateway.url, "--otel", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", _WITH_AN_SDK, *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    span = json.loads(done.stdout)
    assert span["name"] == "chat good"
    [seen] = gateway.recent_requests()
    trace_id = span["context"]["trace_id"].removeprefix("0x")
    assert seen.header(b"traceparent").startswith(f"00-{trace_id}-")


def test_without_an_sdk_there_is_nothing_to_trace_with(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "b.jsonl", ["good"])
    done = batch_gateway("run", batch, "--gateway", gateway.url, "--otel", cwd=tmp_path)
    assert done.returncode == 2
    assert "--otel: no OpenTelemetry SDK is set up" in done.stderr
    assert "opentelemetry-instrument batch-gateway run" in done.stderr
    assert gateway.journal()["received"] == 0


def test_json_logs_tell_how_each_request_ended_and_nothing_that_was_said(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    models = ["good", "fault-status-400", "fault-status-503;times=1"]
    batch = write_batch(tmp_path / "b.jsonl", models)
    (tmp_path / "key").write_text("sk-very-secret-key\n")
    done = batch_gateway(
        "run", batch, "--gateway", gateway.url, "--log-format", "json",
        "--api-key-file", "key", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    found = records(done.stderr)
    ends = {record["model"]: record for record in found if record["event"].startswith("request ")}
    assert ends["good"]["level"] == "info"
    assert (ends["good"]["outcome"], ends["good"]["status"]) == ("ok", 200)
    assert ends["good"]["gateway"] == gateway.url
    assert ends["good"]["request_id"].startswith("batch_req_")
    assert ends["fault-status-400"]["level"] == "warning"
    assert ends["fault-status-400"]["code"] == "invalid_request"
    assert ends["fault-status-503;times=1"]["attempts"] == 2
    [retry] = [record for record in found if record["event"] == "retry scheduled"]
    assert (retry["reason"], retry["status"]) == ("server_error", 503)
    assert all(record["time"].endswith("Z") for record in found)
    assert "Hello" not in done.stderr
    assert "sk-very-secret-key" not in done.stderr


def test_text_logs_are_one_line_a_record(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "b.jsonl", ["good", "fault-status-400"])
    done = batch_gateway(
        "run", batch, "--gateway", gateway.url, "--log-level", "warning", cwd=tmp_path
    )
    lines = [line for line in done.stderr.splitlines() if " WARNING " in line]
    assert len(lines) == 1
    assert "request failed gateway=http://127.0.0.1:" in lines[0]
    assert "model=fault-status-400" in lines[0]


def test_nothing_is_logged_unless_asked_for(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "b.jsonl", ["good", "fault-status-400"])
    done = batch_gateway("run", batch, "--gateway", gateway.url, "--quiet", cwd=tmp_path)
    assert "request" not in done.stderr.replace("requests succeeded", "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("metrics_port: 70000", "metrics_port: 70000 is not a port, 0 to 65535"),
        ("log_format: xml", "log_format: xml is not one of text, json"),
    ],
)
def test_settings_in_a_file_are_checked(
    tmp_path: Path, gateway: GatewayHandle, line: str, problem: str
) -> None:
    batch = write_batch(tmp_path / "b.jsonl", 1)
    (tmp_path / "c.yaml").write_text(f"gateway: {gateway.url}\n{line}\n")
    done = batch_gateway("run", batch, "--config", "c.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr


def test_the_settings_of_a_file_are_obeyed(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = write_batch(tmp_path / "b.jsonl", 1)
    (tmp_path / "c.yaml").write_text(
        f"gateway: {gateway.url}\nmetrics_port: 0\nlog_format: json\nlog_level: debug\n"
    )
    done = batch_gateway("run", batch, "--config", "c.yaml", cwd=tmp_path)
    assert done.returncode == 0
    events = [record["event"] for record in records(done.stderr)]
    assert events[0].startswith("Metrics at http://127.0.0.1:")
    assert {"request started", "request finished"} <= set(events)


def test_scrapers_that_hang_up_leave_no_trace_among_the_logs(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "b.jsonl", ["good"] * 20 + ["fault-delay-1"])
    arguments = ["run", batch, "--gateway", gateway.url, "--metrics-port", "0"]
    with started(*arguments, "--log-format", "json", cwd=tmp_path) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.search(r"http://([\d.]+):(\d+)/metrics", first)
        assert found is not None
        for sent in (
            b"",
            b"GET /metrics HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\nX",
        ):
            with socket.create_connection((found[1], int(found[2])), timeout=10) as scraper:
                scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                scraper.sendall(sent)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert {record["level"] for record in records(first + stderr)} == {"info"}
