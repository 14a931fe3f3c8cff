"""Serving metrics over HTTP."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
from batch_gateway.engine.progress import RunStats
from batch_gateway.metrics.metrics_server import MetricsServer
from batch_gateway.metrics.prometheus import PrometheusMetrics
from batch_gateway.testing import simulated_gateway


@pytest.fixture(scope="module")
def server() -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    metrics.follow_run(RunStats(total=3))
    with simulated_gateway() as gateway:
        config = HTTPInferenceClientConfig(gateway.url, stream_upstream=True)
        with HTTPInferenceClient(config, observers=[metrics]).blocking() as client:
            client.generate(InferenceRequest(params={"model": 'a "b" \\c\n', "prompt": "Hello!"}))
    metrics.clients[0].breaker_changed("open")
    with MetricsServer(registry, "127.0.0.1", 0) as running:
        yield running


def fetch(url: str, accept: str = "") -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode()


def test_scrapers_get_the_format_that_they_ask_for(server: MetricsServer) -> None:
    kind, text = fetch(server.url)
    assert kind.startswith("text/plain")
    samples = {
        sample.name: sample.labels for family in plain_text(text) for sample in family.samples
    }
    assert samples["batch_gateway_requests_total"]["model"] == 'a "b" \\c\ufffd'

    kind, text = fetch(server.url, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name for family in open_metrics(text)}
    assert {"batch_gateway_requests", "batch_gateway_time_to_first_token_seconds"} <= families


def test_other_paths_are_not_found(server: MetricsServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(server.url.replace("/metrics", "/secrets"))
    with caught.value:
        assert caught.value.code == 404


def test_a_scraper_that_never_asks_does_not_hold_up_the_end() -> None:
    with MetricsServer(CollectorRegistry(), "127.0.0.1", 0) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        silent = socket.create_connection(("127.0.0.1", port), timeout=10)
        assert fetch(server.url)[1] == ""
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_ipv6_addresses_are_shown_as_urls() -> None:
    try:
        server = MetricsServer(CollectorRegistry(), "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert server.url.startswith("http://[::1]:")
        assert fetch(server.url)[1] == ""


def connection_to(server: MetricsServer) -> socket.socket:
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
VISITS = {
    "nothing": b"",
    "half a line": b"GET /met",
    "half a head": GET,
    "a whole request": GET + b"\r\n",
    "many at once": (GET + b"\r\n") * 50,
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
    "control characters": b"\x1b[31m\x00\xff\xfe\r\n\r\n",
    "a line without end": b"GET /" + b"a" * 100_000,
    "a head without end": GET + b"".join(b"X-%d: y\r\n" % n for n in range(1_000)) + b"\r\n",
    "no header": GET + b": x\r\n y\r\n\xff\r\n\r\n",
    "another method": b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000),
    "a version that makes no sense": GET
    + b"Accept: application/openmetrics-text; version=1.x.0\r\n\r\n",
    "expecting": GET + b"Expect: 100-continue\r\n\r\n",
}


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("sent", VISITS.values(), ids=VISITS)
def test_whoever_hangs_up_or_talks_nonsense_is_no_news(
    leave: Callable[[socket.socket], None],
    sent: bytes,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    # More than the buffers of a connection take, so that the answer is cut off.
    Gauge("large", "", ["name"], registry=registry).labels("x" * 10_000_000).set(1)
    with MetricsServer(registry, "127.0.0.1", 0) as server:
        before = set(threading.enumerate())
        visitor = connection_to(server)
        visitor.sendall(sent)
        leave(visitor)
        assert len(fetch(server.url)[1]) > 10_000_000
        for thread in set(threading.enumerate()) - before:
            thread.join(20)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_many_who_never_finish_asking_keep_nobody_out(capfd: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with MetricsServer(CollectorRegistry(), "127.0.0.1", 0) as server, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connection_to(server)).sendall(b"GET /metrics HTTP/1.1\r\n")
            assert threading.active_count() < before + 60
        assert fetch(server.url)[1] == ""
    assert capfd.readouterr() == ("", "")


def test_a_metric_that_cannot_be_read_is_a_line_in_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    Gauge("broken", "", registry=registry).set_function(lambda: 1 / 0)
    with MetricsServer(registry, "127.0.0.1", 0) as server, connection_to(server) as visitor:
        visitor.sendall(GET + b"\r\n")
        assert visitor.recv(100) == b""
    assert "metrics could not be shown: ZeroDivisionError" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_head_is_answered_with_the_head_alone(server: MetricsServer) -> None:
    with connection_to(server) as visitor:
        visitor.sendall(b"HEAD /metrics HTTP/1.1\r\n\r\n")
        with visitor.makefile("rb") as answer:
            text = answer.read()
    assert text.startswith(b"HTTP/1.0 200 ")
    assert text.endswith(b"\r\n\r\n")
    assert b"\r\nServer: batch-gateway\r\n" in text
