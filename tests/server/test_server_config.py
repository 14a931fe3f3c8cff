"""Settings of the API that cannot be meant are refused with the name of the field."""

from __future__ import annotations

from typing import Any

import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.server.server_config import ServerConfig

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"port": 70000}, "port: 70000 is above"),
        ({"port": 9000, "observability_port": 9000}, "observability_port: 9000 is the port"),
        ({"tls_key": "x"}, "tls_certificate: needs tls_key"),
        ({"tls_certificate": "/nowhere", "tls_key": "/nowhere"}, "is not a file"),
        ({"tenant_header": "a b"}, "tenant_header.*is not a header name"),
        ({"pass_through_headers": ["X-A"]}, "header_keys: is needed .*openssl rand"),
        ({"pass_through_headers": "X-A"}, "pass_through_headers: must be a list"),
        ({"pass_through_headers": ["Connection"], "header_keys": [KEY]}, "set by the transport"),
        *(
            (
                {"pass_through_headers": ["X-A", name], "header_keys": [KEY]},
                f"{name.lower()}.*is about the connection or the body",
            )
            for name in ("Keep-Alive", "Proxy-Authorization", "Accept-Encoding", "content-type")
        ),
        (
            {"pass_through_headers": ["x-gateway-destination-endpoint"], "header_keys": [KEY]},
            "for routers alone",
        ),
        (
            {"pass_through_headers": ["authorization"], "header_keys": [KEY], "api_keys": True},
            "Authorization holds the API key of this server",
        ),
        ({"max_file_bytes": "much"}, "max_file_bytes: 'much' is not a size"),
        ({"max_file_lines": 0}, "max_file_lines"),
        ({"max_completion_window": "0s"}, "max_completion_window: must be more than zero"),
        ({"batch_lifetime": "0s"}, "batch_lifetime: must be more than zero"),
        ({"file_lifetime": -1}, "file_lifetime"),
        ({"stall_timeout": "soon"}, "stall_timeout: 'soon' is not a duration"),
        ({"allow_paths": "/v1/x"}, "allow_paths: must be a list"),
        ({"allow_paths": ["v1/x"]}, "allow_paths: endpoint 'v1/x' is not a relative path"),
        ({"allow_paths": ["/v1/../admin"]}, "allow_paths: endpoint '/v1/../admin' is not"),
        ({"max_connections": None}, "max_connections"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ServerConfig(**settings)


def test_durations_and_sizes_are_written_as_people_write_them() -> None:
    config = ServerConfig(max_file_bytes="1GiB", stall_timeout="1m30s", file_lifetime="1h")
    assert (config.file_bytes, config.stall_timeout, config.file_lifetime) == (2**30, 90.0, 3600.0)
