"""What can be set about a gateway that is an endpoint picker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from batch_gateway.config_checks import (
    normalise_duration,
    require_count,
    require_kind,
    require_kinds,
    require_positive,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.http.tls import TLSConfig
from batch_gateway.picker.endpoints import is_endpoint

__all__ = ["DEFAULT_PICKER_PORT", "EndpointPickerConfig"]

DEFAULT_PICKER_PORT = 9002

_AUTHORITY = re.compile(r"[0-9A-Za-z.\-_:\[\]%]{1,255}")


@dataclass(frozen=True, kw_only=True)
class EndpointPickerConfig:
    """How a `grpc://` or `grpcs://` gateway is asked. Durations are seconds or Go-style strings.

    Attributes:
        endpoint_subset: the only pods to choose from, each as "ip:port"; empty for all.
        pick_timeout: how long the choice may take, queueing included; None: as long as the
            attempt. Keep it above the picker's own queue time limit, or its reason for a
            refusal is never heard.
        echo_timeout: how long to wait for the picker to hand back an answer that was reported
            to it. Past that the pod's own bytes are the answer.
        authority: what the picker is told as the request's host, and pods as theirs; None: the
            picker's own address, and each pod's.
        pod_tls: for pods that serve TLS: how their certificates are verified, and what they are
            shown; None for plain HTTP. A pod is reached by its IP address, so that must be in
            its certificate, or `server_name` say what is.
        health: where its health service listens, such as "grpc://picker:9003"; None: its own
            address, where many have none, which counts as healthy.
        max_pods: to how many pods connections are kept.
        pod_idle_timeout: a pod that has not been chosen for so long is forgotten, and its
            connections closed.
    """

    endpoint_subset: Sequence[str] = ()
    pick_timeout: Duration | None = None
    echo_timeout: Duration = 2.0
    authority: str | None = None
    pod_tls: TLSConfig | None = None
    health: str | None = None
    max_pods: int = 1024
    pod_idle_timeout: Duration = 300.0

    def __post_init__(self) -> None:
        require_kinds(self, "endpoint_picker.", but=("endpoint_subset", "health"))
        object.__setattr__(self, "endpoint_subset", _checked_subset(self.endpoint_subset))
        for name in ("echo_timeout", "pod_idle_timeout"):
            self._normalise(name)
        if self.pick_timeout is not None:
            self._normalise("pick_timeout")
        require_count("endpoint_picker.max_pods", self.max_pods, minimum=1)
        if self.authority is not None and not _AUTHORITY.fullmatch(self.authority):
            raise ConfigError("endpoint_picker.authority", f"{self.authority!r} is not a host name")
        if self.health is not None:
            _require_health_url(self.health)

    def _normalise(self, name: str) -> None:
        normalise_duration(self, name, prefix="endpoint_picker.")
        require_positive(f"endpoint_picker.{name}", seconds(getattr(self, name)))


def _checked_subset(subset: Sequence[str]) -> tuple[str, ...]:
    field = "endpoint_picker.endpoint_subset"
    if isinstance(subset, str):
        raise ConfigError(field, "is a list of pods, not one text")
    require_kind(field, subset, Sequence[str])
    for endpoint in subset:
        if not is_endpoint(endpoint):
            raise ConfigError(field, f"{endpoint!r} is not of the form ip:port")
    return tuple(subset)


def _require_health_url(url: object) -> None:
    field = "endpoint_picker.health"
    problem = ConfigError(field, f"{url!r} is not a URL such as grpc://picker:9003")
    if not isinstance(url, str):
        raise problem
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise problem from error
    if "@" in parts.netloc:
        raise ConfigError(field, "holds credentials, of which the picker has no use")
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname or not port:
        raise problem
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(field, f"{url!r} must end behind the port")
