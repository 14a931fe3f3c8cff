"""Where a setting comes from, and how a wrong one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.errors import ConfigError
from batch_gateway.settings.config_file import load_config_file
from batch_gateway.settings.run_settings import RunSettings, resolve_settings
from batch_gateway.settings.setting import ConfigFile

PATIENT = CircuitBreakerPolicy(
    when_open="wait",
    patience=1800.0,
    after_success=True,
    connect_failures=1,
    broken_connections=4,
    longest_probe=1.5,
)


def resolve(
    folder: Path,
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    config: str = "",
) -> RunSettings:
    path = folder / "gateway.yaml"
    path.write_text(config, "utf-8")
    file = load_config_file(path) if config else ConfigFile()
    return resolve_settings(flags or {}, environment or {}, file)


def gateway(settings: RunSettings) -> HTTPInferenceClientConfig:
    assert settings.gateway is not None
    return settings.gateway


def refusal(folder: Path, flags: dict[str, Any], config: str = "", **variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(folder, flags, variables, config)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    flags = {"gateway": "http://flag"}
    variables = {"BATCH_GATEWAY_URL": "http://variable"}
    config = "gateway: http://file"
    assert gateway(resolve(tmp_path, flags, variables, config)).base_url == "http://flag"
    assert gateway(resolve(tmp_path, {}, variables, config)).base_url == "http://variable"
    assert gateway(resolve(tmp_path, {}, {}, config)).base_url == "http://file"


def test_an_empty_variable_is_no_variable(tmp_path: Path) -> None:
    variables = {"BATCH_GATEWAY_URL": " ", "BATCH_GATEWAY_API_KEY": ""}
    settings = resolve(tmp_path, {}, variables, "gateway: http://file")
    assert gateway(settings).base_url == "http://file"
    assert gateway(settings).api_key_env is None


def test_without_flags_the_defaults_hold(tmp_path: Path) -> None:
    settings = resolve(tmp_path, {"gateway": "http://g"})
    found = gateway(settings)
    assert found == HTTPInferenceClientConfig(
        "http://g",
        circuit_breaker=PATIENT,
        concurrency=AdaptiveConcurrency(),
        max_idle_connections=found.max_idle_connections,
    )
    assert (settings.concurrency, settings.order, settings.deadline) == (None, "prefix", None)
    assert not any((settings.ordered, settings.fresh, settings.json, settings.quiet))


def test_every_gateway_setting_reaches_the_client(tmp_path: Path) -> None:
    settings = resolve(
        tmp_path,
        {"gateway": "http://g", "timeout": 7.0, "headers": {"x-team": "flag"}, "max_retries": 1},
        config="""\
connect_timeout: 2s
max_retries: 9
initial_backoff: 1s
max_backoff: 9s
headers: {X-Team: file, X-Other: kept}
inference_objective: batch
fairness_id: team-a
inference_ttl: 10m
rpm: 600
tpm: 1000000
learn_rate_limits: true
transport: auto
unix_socket: /run/gateway.sock
concurrency: 500
""",
    )
    assert gateway(settings) == HTTPInferenceClientConfig(
        "http://g",
        timeout=7.0,
        connect_timeout=2.0,
        max_idle_connections=500,
        retry=RetryPolicy(max_retries=1, initial_backoff=1.0, max_backoff=9.0),
        headers={
            "X-Other": "kept",
            "x-team": "flag",
        },
        unix_socket=Path("/run/gateway.sock"),
        circuit_breaker=PATIENT,
        rate_limit=RateLimit(requests_per_minute=600.0, tokens_per_minute=1e6, learn=True),
        scheduling=SchedulingHints(objective="batch", fairness_id="team-a", ttl=600.0),
    )


def test_no_patience_is_no_circuit_breaker(tmp_path: Path) -> None:
    config = "{gateway: http://g, patience: 0s}"
    assert gateway(resolve(tmp_path, {}, config=config)).circuit_breaker is None


def test_sources_of_the_key_replace_each_other_by_precedence(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("from-flag\n")
    flags = {"gateway": "http://g", "api_key_file": key_file}
    variables = {"BATCH_GATEWAY_API_KEY": "from-variable"}
    config = "api_key: from-file"
    assert gateway(resolve(tmp_path, flags, variables, config)).api_key == "from-flag"
    del flags["api_key_file"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_GATEWAY_API_KEY", "from-variable")
        assert gateway(resolve(tmp_path, flags, variables, config)).api_key == "from-variable"
    assert gateway(resolve(tmp_path, flags, {}, config)).api_key == "from-file"


def test_two_sources_of_a_key_in_one_place_are_a_mistake(tmp_path: Path) -> None:
    config = "gateway: http://g\napi_key: a\napi_key_env: B"
    message = refusal(tmp_path, {}, config)
    expected = "gateway.yaml:3: api_key_env: gives a key, as gateway.yaml:2: api_key does; keep one"
    assert message == expected


def test_starting_over_and_sending_failed_lines_exclude_each_other(tmp_path: Path) -> None:
    flags = {"gateway": "http://g", "fresh": True, "retry_failed": True}
    assert "choose one" in refusal(tmp_path, flags)


def test_without_any_gateway_the_choices_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, {})
    choices = "\n".join(caught.value.problems)
    for choice in ("--gateway URL", "BATCH_GATEWAY_URL", "--config", "--gateway simulator"):
        assert choice in choices


def test_models_share_the_settings_of_the_run_unless_their_entry_is_a_mapping(
    tmp_path: Path,
) -> None:
    settings = resolve(
        tmp_path,
        {"gateway": "http://g", "model_gateways": {"flagged": "http://f"}},
        config="""\
api_key: run-key
headers: {X-Team: run}
timeout: 9s
connect_timeout: 4s
model_gateways:
  flagged: http://replaced
  short: http://s
  long: {url: http://l, api_key: long-key, timeout: 3s}
  open: {url: http://o}
""",
    )
    by_model = settings.model_gateways
    default = gateway(settings)
    assert by_model["flagged"] == default.with_base_url("http://f")
    assert by_model["short"] == default.with_base_url("http://s")
    long, without_key = by_model["long"], by_model["open"]
    assert (long.api_key, long.timeout, long.connect_timeout) == ("long-key", 3.0, 4.0)
    assert (without_key.api_key, without_key.header_pairs(), without_key.timeout) == (None, (), 9.0)


def test_a_flag_wins_over_the_entry_of_a_model_but_lends_it_no_key(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("flag-key")
    flags = {"timeout": 1.0, "api_key_file": key_file, "headers": {"X-Token": "t"}}
    config = "model_gateways: {m: {url: http://m, timeout: 5s}}"
    entry = resolve(tmp_path, flags, config=config).model_gateways["m"]
    assert (entry.timeout, entry.api_key_file, entry.header_pairs()) == (1.0, None, ())


def test_gateways_for_models_alone_need_no_default(tmp_path: Path) -> None:
    settings = resolve(tmp_path, {"model_gateways": {"m": "http://m"}})
    assert settings.gateway is None
    assert set(settings.model_gateways) == {"m"}


@pytest.mark.parametrize(
    ("config", "flag", "expected"),
    [
        ("concurrency: {global: 100, per_endpoint: 30}", None, 30),
        ("concurrency: {global: 40, per_endpoint: 30}", None, 20),
        ("{concurrency: 64, max_job_concurrency: 10}", None, 5),
        ("{concurrency: 64, max_job_concurrency: 1}", None, 1),
        ("concurrency: 7", None, 7),
        ("concurrency: {global: 40}", 200, 200),
    ],
)
def test_gateways_share_the_total_concurrency(
    tmp_path: Path, config: str, flag: int | None, expected: int
) -> None:
    flags = {"gateway": "http://g", "model_gateways": {"m": "http://m"}, "concurrency": flag}
    settings = resolve(tmp_path, flags, config=config)
    assert (settings.gateways, settings.concurrency) == (2, expected)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ("{concurrency: auto, max_job_concurrency: 10}", 5),
        ("{concurrency: auto, max_job_concurrency: 1}", 1),
        ("max_job_concurrency: 10", 5),
        ("concurrency: auto", 1000),
        ("order: file", 1000),
    ],
)
def test_what_is_found_by_measuring_stays_within_the_total_and_the_open_files(
    tmp_path: Path, config: str, most: int
) -> None:
    flags = {"gateway": "http://g", "model_gateways": {"m": "http://m"}}
    path = tmp_path / "gateway.yaml"
    path.write_text(config)
    settings = resolve_settings(flags, {}, load_config_file(path), most_connections=2000)
    assert settings.concurrency is None
    assert gateway(settings).concurrency == AdaptiveConcurrency(
        maximum=most, initial=min(most, AdaptiveConcurrency().initial)
    )


def test_the_simulator_gets_neither_key_nor_detours(tmp_path: Path) -> None:
    settings = resolve(
        tmp_path,
        {"gateway": "simulator", "timeout": 5.0},
        config="gateway: http://real\napi_key: secret\nproxy: env",
    )
    assert settings.uses_simulator
    assert (gateway(settings).api_key, gateway(settings).proxy) == (None, None)
    assert gateway(settings).timeout == 5.0


@pytest.mark.parametrize(
    ("flags", "config", "expected"),
    [
        ({"gateway": "llm-d"}, "", "--gateway: 'llm-d' is not a URL such as"),
        ({"gateway": "http://user:pw@g"}, "", "--gateway: holds credentials; give the key"),
        ({"gateway": "http://g", "timeout": 0.0}, "", "--timeout: must be more than zero"),
        ({}, "gateway: ftp://g", "gateway.yaml:1: gateway: 'ftp://g' is not a URL"),
        ({}, "\nmodel_gateways: {m: bad}", "gateway.yaml:2: model_gateways.m: 'bad' is not a URL"),
        ({"model_gateways": {"m": "bad"}}, "", "--model-gateway m: 'bad' is not a URL"),
        (
            {"gateway": "http://g"},
            "api_key_file: nowhere",
            "gateway.yaml:1: api_key_file: nowhere: No such file or directory",
        ),
        (
            {"gateway": "http://g", "api_key_env": "UNSET_VARIABLE"},
            "",
            "--api-key-env: the variable UNSET_VARIABLE is not set",
        ),
        (
            {"gateway": "http://g"},
            "tls_ca_file: gateway.yaml",
            "gateway.yaml:1: tls_ca_file: gateway.yaml is not a PEM file",
        ),
        (
            {"gateway": "http://g"},
            "tls_client_cert_file: gateway.yaml",
            "--tls-client-key-file: a client certificate and its key go together",
        ),
        (
            {"gateway": "http://g", "transport": "aiohttp"},
            "",
            "--transport: there is no aiohttp any more, nor an extra of that name: leave",
        ),
        (
            {"gateway": "http://g"},
            "transport: aiohttp",
            "gateway.yaml:1: transport: there is no aiohttp any more, nor",
        ),
        ({"gateway": "http://g", "transport": "curl"}, "", "--transport: 'curl' is none; there is"),
        ({"gateway": "http://g", "headers": {"Host": "x"}}, "", "--header['Host']: is set by"),
    ],
)
def test_a_wrong_value_is_named_by_where_it_was_given(
    tmp_path: Path, flags: dict[str, Any], config: str, expected: str
) -> None:
    assert refusal(tmp_path, flags, config).startswith(expected)


def test_settings_of_a_picker_are_refused_where_there_is_none(tmp_path: Path) -> None:
    nothing = "does nothing without an endpoint picker, whose URL begins with grpc://"
    flags = {"gateway": "http://g", "pick_timeout": 3.0}
    assert refusal(tmp_path, flags) == f"--pick-timeout: {nothing}"
    config = "gateway: http://g\npicker_health: grpc://p:9003\n"
    assert refusal(tmp_path, {}, config) == f"gateway.yaml:2: picker_health: {nothing}"


def test_a_file_for_a_picker_serves_another_gateway_too(tmp_path: Path) -> None:
    config = "gateway: grpc://p:9002\npick_timeout: 3s\n"
    assert gateway(resolve(tmp_path, {"gateway": "http://g"}, {}, config)).base_url == "http://g"
    assert resolve(tmp_path, {"gateway": "simulator"}, {}, config).uses_simulator
    routes = {"gateway": "http://g", "model_gateways": {"m": "grpc://p"}, "pick_timeout": 3.0}
    settings = resolve(tmp_path, routes)
    assert settings.model_gateways["m"].endpoint_picker is not None
