"""Serving metrics over HTTP."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
from batch_gateway.batch.progress import RunStats
from batch_gateway.metrics.prometheus import PrometheusMetrics
from batch_gateway.metrics.server import MetricsServer
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
