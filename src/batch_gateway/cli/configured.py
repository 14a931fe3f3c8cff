"""What a run was configured to do, in words for a person and without secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from batch_gateway.client.client import gateway_name
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.durations import format_duration
from batch_gateway.settings.run_settings import RunSettings

__all__ = ["configured"]

Rows = list[tuple[str, str]]

# Always worth knowing; of everything else only what is not as it is by default.
_ALWAYS = frozenset({"timeout", "connect_timeout", "retry.max_retries"})
_SAID_OF_THE_RUN = frozenset({"concurrency"})
# Said elsewhere, or chosen by the command and not by its user.
_ELSEWHERE = frozenset(
    {
        "base_url",
        "unix_socket",
        "max_idle_connections",
        "max_connections",
        "circuit_breaker.when_open",
        "circuit_breaker.after_success",
        "circuit_breaker.connect_failures",
        "circuit_breaker.longest_probe",
    }
)


def configured(settings: RunSettings, files: Mapping[str, str]) -> list[tuple[str, Rows]]:
    """Headings, each with (name, value) pairs: the run, then every gateway."""
    run: Rows = [(name, path) for name, path in files.items()]
    pace = (
        f"{settings.concurrency} for each gateway" if settings.concurrency else "found by measuring"
    )
    run.append(("concurrency", pace))
    run.append(("order", settings.order + (", results as in the input" * settings.ordered)))
    if settings.deadline is not None:
        run.append(("deadline", _duration(settings.deadline)))
    if settings.max_failures is not None:
        run.append(("max failures", str(settings.max_failures)))
    if settings.fresh:
        run.append(("fresh", "earlier results were discarded"))
    if settings.retry_failed:
        run.append(("retry failed", "only lines that had failed before"))
    return [("Run", run), *_gateways(settings)]


def _gateways(settings: RunSettings) -> Iterator[tuple[str, Rows]]:
    models: dict[HTTPInferenceClientConfig, list[str]] = {}
    for model, config in settings.model_gateways.items():
        models.setdefault(config, []).append(model)
    if settings.gateway is not None:
        name = "a simulator in the command's own process"
        if not settings.uses_simulator:
            name = gateway_name(settings.gateway)
        rest = "all other models" if models else ""
        served = ", ".join(filter(None, [*models.pop(settings.gateway, []), rest]))
        yield f"Gateway {name}", [*_models(served), *_described(settings.gateway)]
    for config, names in models.items():
        yield f"Gateway {gateway_name(config)}", [*_models(", ".join(names)), *_described(config)]


def _models(served: str) -> Rows:
    return [("models", served)] if served else []


def _described(config: HTTPInferenceClientConfig) -> Rows:
    rows = list(_fields(config))
    if config.api_key is not None:
        rows.append(("api key", "given"))
    if config.headers:
        rows.append(("headers", ", ".join(name for name, _ in config.header_pairs())))
    if config.proxy is not None:
        host = urlsplit(config.proxy).netloc.rpartition("@")[2]
        rows.append(("proxy", "from the environment" if config.proxy == "env" else host))
    return rows


def _fields(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """What is not by default. Fields that stay out of reprs stay out of here."""
    for field in dataclasses.fields(value):
        name = prefix + field.name
        own, usual = getattr(value, field.name), _usual(field)
        if not field.repr or field.name == "_" or name in _ELSEWHERE:
            continue
        if dataclasses.is_dataclass(own):
            within = list(_fields(own, f"{name}."))
            said = own == usual or name in _SAID_OF_THE_RUN
            yield from within or ([] if said else [(_in_words(name), "on")])
        elif own != usual or name in _ALWAYS:
            yield _in_words(name), _text(own, str(field.type))


def _usual(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _in_words(name: str) -> str:
    return name.removeprefix("retry.").replace(".", ": ").replace("_", " ")


def _text(value: Any, kind: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, cast("tuple[object, ...]", value)))
    if "Duration" in kind and isinstance(value, int | float):
        return _duration(value)
    return f"{value:,.15g}" if isinstance(value, int | float) else str(value)


def _duration(seconds: float) -> str:
    """As a person would have written it: "10 s", "5m", "2h30m"."""
    if 1 <= seconds < 60:
        return f"{seconds:g} s"
    return format_duration(seconds).removesuffix("00s").removesuffix("00m")
