"""Settings are checked when they are made, and secrets stay out of sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from batch_gateway import ConfigError, HTTPInferenceClientConfig, RetryPolicy, TLSConfig
from batch_gateway.http.origin_headers import origin_headers


def test_the_defaults_are_the_documented_ones() -> None:
    config = HTTPInferenceClientConfig()
    assert config.base_url == "http://localhost:8000"
    assert (config.timeout, config.idle_timeout, config.max_idle_connections) == (300, 90, 100)
    assert config.max_connections is None
    assert config.max_response_bytes == 64 * 1024 * 1024
    assert config.retry == RetryPolicy(max_retries=3)
    assert config.tls.minimum_version == "1.2"


def test_durations_may_be_go_style_strings() -> None:
    config = HTTPInferenceClientConfig(timeout="5m", connect_timeout="1.5s", idle_timeout="1h")
    assert (config.timeout, config.connect_timeout, config.idle_timeout) == (300, 1.5, 3600)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"base_url": "ftp://host"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://host:99999"}, "base_url"),
        ({"base_url": "http://host:port"}, "base_url"),
        ({"base_url": "http://host/a b"}, "base_url"),
        ({"base_url": "http://user:secret@host"}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"connect_timeout": -1}, "connect_timeout"),
        ({"idle_timeout": "x"}, "idle_timeout"),
        ({"max_idle_connections": -1}, "max_idle_connections"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": "10"}, "max_connections"),
        ({"max_response_bytes": 0}, "max_response_bytes"),
        ({"api_key": "two words"}, "api_key"),
        ({"api_key": "line\nbreak"}, "api_key"),
        ({"api_key": "sk-1", "api_key_env": "KEY"}, "api_key_env"),
        ({"headers": {"bad name": "x"}}, "headers['bad name']"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "headers['X-A']"),
        ({"headers": {"Content-Length": "1"}}, "headers['Content-Length']"),
        (
            {"headers": {"x-gateway-destination-endpoint": "1"}},
            "headers['x-gateway-destination-endpoint']",
        ),
        ({"transport": "carrier-pigeon"}, "transport"),
        ({"transport": "aiohttp"}, "transport"),
        ({"proxy": "socks5://p"}, "proxy"),
        ({"proxy": "http://user:secret@proxy:port"}, "proxy"),
        ({"proxy": "env", "unix_socket": "/tmp/s"}, "proxy"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HTTPInferenceClientConfig(**settings)
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RetryPolicy(max_retries=-1), "retry.max_retries"),
        (lambda: RetryPolicy(initial_backoff="x"), "retry.initial_backoff"),
        (lambda: RetryPolicy(budget_ratio=float("nan")), "retry.budget_ratio"),
        (lambda: TLSConfig(ca_file="/no/such/file"), "tls.ca_file"),
        (lambda: TLSConfig(minimum_version="1.1"), "tls.minimum_version"),  # type: ignore[arg-type]
        (lambda: TLSConfig(minimum_version="1.3", maximum_version="1.2"), "tls.maximum_version"),
        (lambda: TLSConfig(client_cert_file=__file__), "tls.client_key_file"),
        (lambda: TLSConfig(pinned_certificate="abc"), "tls.pinned_certificate"),
        (
            lambda: TLSConfig(pinned_certificate="ab" * 32, insecure_skip_verify=True),
            "tls.pinned_certificate",
        ),
        (
            lambda: TLSConfig(pinned_certificate="ab" * 32, ca_file=__file__),
            "tls.pinned_certificate",
        ),
        (lambda: TLSConfig(server_name="https://a"), "tls.server_name"),
        (lambda: TLSConfig(server_name="a..b"), "tls.server_name"),
        (lambda: TLSConfig(server_name="a" * 64), "tls.server_name"),
        (lambda: TLSConfig(client_key_file=__file__), "tls.client_cert_file"),
        (lambda: TLSConfig(ca_file=__file__).ssl_context(), "tls.ca_file"),
        (
            lambda: TLSConfig(client_cert_file=__file__, client_key_file=__file__).ssl_context(),
            "tls.client_cert_file",
        ),
    ],
)
def test_a_wrong_retry_or_tls_setting_is_named(make: Any, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_equal_settings_are_equal_and_hashable_however_they_were_written() -> None:
    one = HTTPInferenceClientConfig("http://h/", timeout="5m", headers={"X-A": "1"})
    two = HTTPInferenceClientConfig("http://h", timeout=300, headers=[("X-A", "1")])
    assert one == two
    assert hash(one) == hash(two)


def test_secrets_never_show_in_a_repr() -> None:
    config = HTTPInferenceClientConfig(
        api_key="sk-very-secret",
        headers={"X-Api-Key": "also-secret"},
        proxy="http://user:hidden@proxy:3128",
    )
    for secret in ("very-secret", "also-secret", "hidden"):
        assert secret not in repr(config)


def test_a_key_may_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_text("sk-from-file\n")
    monkeypatch.setenv("MY_KEY", " sk-from-env ")
    assert HTTPInferenceClientConfig(api_key_file=path).resolved_api_key() == "sk-from-file"
    assert HTTPInferenceClientConfig(api_key_env="MY_KEY").resolved_api_key() == "sk-from-env"
    assert HTTPInferenceClientConfig(api_key="").resolved_api_key() is None
    assert HTTPInferenceClientConfig().resolved_api_key() is None


def test_a_byte_order_mark_before_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes("sk-1==\r\n".encode("utf-8-sig"))
    assert HTTPInferenceClientConfig(api_key_file=path).resolved_api_key() == "sk-1=="


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"sk-secret"', "is in quotes"),
        ("'sk-secret'\n", "is in quotes"),
        ("OPENAI_API_KEY=sk-secret\n", "such as NAME=key"),
        ("export KEY='sk-secret'\n", "such as NAME=key"),
    ],
)
def test_a_key_file_of_another_kind_is_told_without_the_key(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        HTTPInferenceClientConfig(api_key_file=path).resolved_api_key()
    assert "sk-secret" not in str(caught.value)


def test_a_key_that_cannot_be_read_is_an_error_that_names_its_source(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    for config, says in [
        (HTTPInferenceClientConfig(api_key_file=tmp_path / "none"), "No such file"),
        (HTTPInferenceClientConfig(api_key_file=empty), "is empty"),
        (HTTPInferenceClientConfig(api_key_env="NO_SUCH_VARIABLE"), "is not set"),
    ]:
        with pytest.raises(ConfigError, match=says):
            config.resolved_api_key()


def test_every_request_carries_the_user_agent_and_the_key_and_own_headers_win() -> None:
    config = HTTPInferenceClientConfig(api_key="sk-1", headers={"user-agent": "mine", "X-A": "1"})
    headers = origin_headers(config)
    assert ("Authorization", "Bearer sk-1") in headers
    assert ("user-agent", "mine") in headers
    assert ("X-A", "1") in headers
    assert [name for name, _ in headers if name.lower() == "user-agent"] == ["user-agent"]


def test_tls_versions_reach_the_context(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = TLSConfig(ca_file=ca_file, minimum_version="1.3").ssl_context()
    assert context.minimum_version.name == "TLSv1_3"
    assert context.check_hostname
    assert not TLSConfig(insecure_skip_verify=True).ssl_context().check_hostname


def test_the_key_goes_in_the_header_that_is_asked_for_and_in_no_other() -> None:
    config = HTTPInferenceClientConfig(api_key="sk-1", api_key_header="api-key")
    headers = dict(origin_headers(config))
    assert headers["api-key"] == "sk-1"
    assert "Authorization" not in headers
    assert "sk-1" not in repr(config)


@pytest.mark.parametrize("name", ["X-Colour", "api key", "Content-Length", ""])
def test_a_header_that_cannot_be_kept_secret_takes_no_key(name: str) -> None:
    with pytest.raises(ConfigError, match="^api_key_header"):
        HTTPInferenceClientConfig(api_key="sk-1", api_key_header=name)
