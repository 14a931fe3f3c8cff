"""`--gateway-metrics`: a run that heeds what its gateway says of itself, and runs without."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import AdaptiveConcurrency, GatewayMetrics
from batch_gateway.errors import ConfigError
from batch_gateway.settings.config_file import load_config_file
from batch_gateway.settings.run_settings import RunSettings, resolve_settings
from batch_gateway.settings.setting import ConfigFile
from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway, in_a_process, write_batch

PAGE = "http://vllm:8000/metrics"


def test_a_run_heeds_the_queue_that_its_gateway_tells_of(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 120)
    # Sixteen to begin with is four times what has a seat; only the page says that at once.
    with simulated_gateway(
        seats=4, time_per_token="5ms", output_tokens=10, latency_scale=1.0
    ) as gateway:
        page = f"{gateway.url}/metrics"
        done = in_a_process(
            *("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--json"),
            *("--concurrency", "auto", "--gateway-metrics", page),
            *("--gateway-metrics-interval", "50ms"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["succeeded"] == 120
    [looked] = summary["gateway_metrics"]
    assert looked["looks"] >= 5
    assert looked["missed"] == 0
    assert looked["lowered"] >= 1
    assert summary["concurrency_limits"][0] < 16


def test_metrics_are_used_without_asking_for_auto_as_well(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 3)
    with simulated_gateway() as gateway:
        page = f"{gateway.url}/metrics"
        arguments = ("run", batch, "--gateway", gateway.url, "-o", "out.jsonl")
        done = batch_gateway(*arguments, "--gateway-metrics", page, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "as many at a time as prove best" in done.stderr
    assert re.search(r" looks? at the gateway's own, ", done.stderr + done.stdout)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_page_that_gives_nothing_known_is_told_of_and_the_run_goes_on(
    quiet: list[str], tmp_path: Path
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 20)
    with simulated_gateway() as gateway:
        page = f"{gateway.url}/health"
        arguments = ("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", *quiet)
        done = batch_gateway(*arguments, "--gateway-metrics", page, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(page) == 1
    assert "gives none of the known metrics (vllm:num_requests_waiting, " in done.stderr


def test_a_page_that_nobody_serves_is_told_of_and_the_run_goes_on(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 20)
    with simulated_gateway() as gateway:
        with simulated_gateway() as gone:
            page = f"{gone.url}/metrics"
        arguments = ("run", batch, "--gateway", gateway.url, "-o", "out.jsonl")
        done = batch_gateway(*arguments, "--gateway-metrics", page, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(page) == 1
    assert "cannot be read" in done.stderr
    assert "found nothing to read" in done.stderr + done.stdout


def resolve(folder: Path, flags: dict[str, Any], config: str = "") -> RunSettings:
    path = folder / "gateway.yaml"
    path.write_text(config, "utf-8")
    return resolve_settings(flags, {}, load_config_file(path) if config else ConfigFile())


def heeded(config: Any) -> GatewayMetrics | None:
    assert config is not None
    assert isinstance(config.concurrency, AdaptiveConcurrency)
    return config.concurrency.gateway_metrics


def test_every_setting_of_the_metrics_reaches_the_client(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    settings = resolve(
        tmp_path,
        {"gateway": "http://g"},
        "gateway_metrics: [http://a, http://b/m]\n"
        "gateway_metrics_interval: 3s\ngateway_metrics_token_file: token\n",
    )
    assert settings.concurrency is None
    assert heeded(settings.gateway) == GatewayMetrics(
        ["http://a/metrics", "http://b/m"], interval=3.0, token_file=tmp_path / "token"
    )


def test_a_page_speaks_of_its_own_gateway_only(tmp_path: Path) -> None:
    settings = resolve(
        tmp_path,
        {"gateway": "http://g", "gateway_metrics": (PAGE,), "concurrency": "auto"},
        "model_gateways: {a: http://a, g: http://g, b: {url: http://b, gateway_metrics: http://c}}",
    )
    metrics = {model: heeded(config) for model, config in settings.model_gateways.items()}
    assert metrics == {"a": None, "g": GatewayMetrics(PAGE), "b": GatewayMetrics("http://c")}
    assert settings.gateways == 3


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"concurrency": 9}, "--gateway-metrics: does nothing where a number is set; use auto"),
        ({"gateway_metrics": ("vllm:8000",)}, "--gateway-metrics: 'vllm:8000' is not a URL"),
        ({"gateway": None, "model_gateways": {"m": "http://m"}}, "are the metrics of --gateway"),
        (
            {"gateway_metrics": None, "gateway_metrics_interval": 2.0},
            "--gateway-metrics-interval: does nothing without --gateway-metrics",
        ),
    ],
)
def test_metrics_that_would_do_nothing_are_refused(
    flags: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, {"gateway": "http://g", "gateway_metrics": (PAGE,), **flags})
    assert problem in str(caught.value)
