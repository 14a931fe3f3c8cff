"""Flags, environment, config file and defaults, merged into what a run needs.

A flag wins over the environment, the environment over the config file, and that over the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from batch_gateway.cli.config_keys import AUTO
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.foreign_variables import (
    KEY_VARIABLE,
    OPENAI,
    as_openai_sdk,
    use_of_openai,
)
from batch_gateway.cli.gateways import (
    API_KEY_SETTINGS,
    METRICS_SETTINGS,
    OWN_TO_A_GATEWAY,
    PICKER_SETTINGS,
    gateway_config,
)
from batch_gateway.cli.given import TOTAL_CONCURRENCY, ConfigFile, Given, ModelGateway, flag_name
from batch_gateway.cli.logs import LogFormat
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import MOST_CONCURRENCY, paced
from batch_gateway.engine.byte_budget import DEFAULT_BUDGET
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.plan import Order
from batch_gateway.http.base_url import DEFAULT_BASE_URL

__all__ = ["API_KEY_VARIABLE", "URL_VARIABLE", "RunSettings", "resolve_settings"]

URL_VARIABLE = "BATCH_GATEWAY_URL"
API_KEY_VARIABLE = "BATCH_GATEWAY_API_KEY"

SIMULATOR = "simulator"
_DEFAULT_CONCURRENCY = AUTO
# A bound on open files below that may be what holds a run back.
_ENOUGH_CONNECTIONS = 1_000
# The simulator is reached directly and needs no key, whatever the real gateway needs.
_NOT_FOR_SIMULATOR = frozenset({*API_KEY_SETTINGS, *METRICS_SETTINGS, "unix_socket", "proxy"})


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run was asked to do.

    Attributes:
        gateway: the default gateway; None when only single models have one.
        uses_simulator: `gateway` is to be given the address of a simulator that we start.
        model_gateways: by model.
        gateways: how many different ones there are.
        isolate_models: each model of the file has a pace, a breaker and limits of its own.
        concurrency: requests in flight to each gateway; None finds that by measuring.
        most_by_files: the most that may be found, when the limit on open files says so and it is
            few; else None.
        what_bounds: what allows no more where the number is found, as the subject of a sentence.
        deadline: seconds the run may take, or None.
        max_failures: stop when more lines failed, or None.
        max_bytes_in_flight: of requests and answers in memory.
        output, errors: as given, or None for the default names.
        metrics_port: where Prometheus may ask, 0 for any free port; None for nowhere.
        otel: trace and measure by the OpenTelemetry SDK of this process.
        log_format, log_level: None unless given; see `logs_shown`.
        report: where the page about the run goes, or None.
    """

    gateway: HTTPInferenceClientConfig | None
    uses_simulator: bool
    model_gateways: Mapping[str, HTTPInferenceClientConfig]
    gateways: int
    isolate_models: bool
    concurrency: int | None
    most_by_files: int | None
    what_bounds: str
    deadline: float | None
    max_bytes_in_flight: int
    max_failures: FailureLimit | None
    output: Path | None
    errors: Path | None
    order: Order
    ordered: bool
    fresh: bool
    retry_failed: bool
    json: bool
    quiet: bool
    metrics_port: int | None
    metrics_host: str
    otel: bool
    log_format: LogFormat | None
    log_level: str | None
    report: Path | None

    @property
    def caches(self) -> frozenset[Path]:
        """Where answers are kept."""
        configs = (self.gateway, *self.model_gateways.values())
        caches = (config.cache for config in configs if config is not None)
        return frozenset(Path(cache.path) for cache in caches if cache is not None)


def resolve_settings(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    file: ConfigFile,
    *,
    most_connections: int = MOST_CONCURRENCY,
) -> RunSettings:
    """Merge and check. `flags` are under setting names, None where not given.

    `most_connections` is what the process can have open over all gateways.

    `headers` and `model_gateways` among them are mappings. Raises CommandFailure.
    """
    _require_one_of_fresh_and_retry_failed(flags)
    given = _merged(flags, environment, file)

    def value(name: str, default: Any = None) -> Any:
        return given[name].value if name in given else default

    default = _default_gateway(given)
    routes = _model_gateways(flags, given, file)
    if default is None and not routes:
        raise _no_gateway(environment)
    gateways = _count(default, routes, flags, given, file)
    concurrency, total = value("concurrency", _DEFAULT_CONCURRENCY), None
    if flags.get("concurrency") in (None, AUTO):
        total = value(TOTAL_CONCURRENCY)
    # With the simulator in this process, both ends of a connection are here.
    ends = 2 if value("gateway") == SIMULATOR else 1
    by_files = most_connections // ends // gateways
    most = _most_each(concurrency, total, gateways, by_files)
    is_found, isolates = concurrency == AUTO, _isolates(given)
    pace = partial(paced, most=most, adaptive=is_found)
    return RunSettings(
        gateway=None if default is None else pace(default),
        gateways=gateways,
        isolate_models=isolates,
        uses_simulator=value("gateway") == SIMULATOR,
        model_gateways={model: pace(config) for model, config in routes.items()},
        concurrency=None if is_found else most,
        most_by_files=most if is_found and by_files <= most < _ENOUGH_CONNECTIONS else None,
        what_bounds=_what_bounds(most, by_files, isolates=isolates),
        deadline=value("deadline"),
        max_bytes_in_flight=value("max_bytes_in_flight", DEFAULT_BUDGET),
        max_failures=value("max_failures"),
        output=value("output"),
        errors=value("errors"),
        order=value("order", "prefix"),
        ordered=value("ordered", False),
        fresh=bool(flags.get("fresh")),
        retry_failed=bool(flags.get("retry_failed")),
        json=value("json", False),
        quiet=value("quiet", False),
        metrics_port=value("metrics_port"),
        metrics_host=value("metrics_host", "127.0.0.1"),
        otel=value("otel", False),
        log_format=value("log_format"),
        log_level=value("log_level"),
        report=value("report"),
    )


def _require_one_of_fresh_and_retry_failed(flags: Mapping[str, Any]) -> None:
    if flags.get("fresh") and flags.get("retry_failed"):
        raise CommandFailure(
            "--fresh discards the failed lines that --retry-failed would send; choose one"
        )


def _most_each(concurrency: int | str, total: int | None, gateways: int, by_files: int) -> int:
    """Requests in flight to each gateway, at most."""
    bounds = [MOST_CONCURRENCY if isinstance(concurrency, str) else concurrency]
    if total is not None:
        bounds.append(total // gateways)
    if isinstance(concurrency, str):
        bounds.append(by_files)
    return max(1, min(bounds))


def _what_bounds(most: int, by_files: int, *, isolates: bool) -> str:
    if most >= MOST_CONCURRENCY:
        bound = f"the most that a run tries, {MOST_CONCURRENCY:,},"
    elif most >= by_files:
        bound = "the limit on open files (ulimit -n)"
    else:
        bound = "concurrency: {global: …} in the config file"
    return f"a model's share of {bound}" if isolates else bound


def _merged(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: ConfigFile
) -> dict[str, Given]:
    from_flags = {
        name: Given(value, flag_name(name)) for name, value in flags.items() if value is not None
    }
    from_environment: dict[str, Given] = {}
    if environment.get(URL_VARIABLE, "").strip():
        from_environment["gateway"] = Given(environment[URL_VARIABLE].strip(), URL_VARIABLE)
    if environment.get(API_KEY_VARIABLE, "").strip():
        from_environment["api_key_env"] = Given(API_KEY_VARIABLE, API_KEY_VARIABLE)
    layers = (from_flags, from_environment, dict(file.values))
    merged = {**layers[2], **layers[1], **layers[0]}
    for name in API_KEY_SETTINGS:
        merged.pop(name, None)
    if "gateway" in merged and merged["gateway"].value == OPENAI:
        # A key that is not given beside it is for some other gateway.
        layers = (from_flags, as_openai_sdk(merged["gateway"], environment))
        merged["gateway"] = layers[1]["gateway"]
    merged |= _api_key(layers)
    if "headers" in from_flags and "headers" in file.values:
        headers = _over(file.values["headers"].value, from_flags["headers"].value)
        merged["headers"] = Given(headers, from_flags["headers"].place)
    return merged


def _api_key(layers: tuple[Mapping[str, Given], ...]) -> dict[str, Given]:
    """The key's source from the first layer that has one: sources replace each other."""
    for layer in layers:
        sources = {name: layer[name] for name in API_KEY_SETTINGS if name in layer}
        if len(sources) > 1:
            first, second = list(sources.values())[:2]
            raise CommandFailure(f"{first.place} and {second.place} both give a key; keep one")
        if sources:
            return sources
    return {}


def _over(base: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    replaced = {name.lower() for name in over}
    return {name: value for name, value in base.items() if name.lower() not in replaced} | dict(
        over
    )


def _default_gateway(given: Mapping[str, Given]) -> HTTPInferenceClientConfig | None:
    url = given.get("gateway")
    if url is None:
        if "gateway_metrics" in given:
            raise CommandFailure(
                f"{given['gateway_metrics'].place}: these are the metrics of --gateway, and there "
                "is none; in a config file each of model_gateways may have gateway_metrics"
            )
        return None
    if url.value != SIMULATOR:
        return gateway_config(url, given)
    usable = {name: value for name, value in given.items() if name not in _NOT_FOR_SIMULATOR}
    if "cache" in usable:
        # Its address is another at every start; it is the same simulator all the same.
        usable.setdefault("cache_namespace", Given(SIMULATOR, url.place))
    placeholder = Given(DEFAULT_BASE_URL, url.place)
    return gateway_config(placeholder, usable)


def _model_gateways(
    flags: Mapping[str, Any], given: Mapping[str, Given], file: ConfigFile
) -> dict[str, HTTPInferenceClientConfig]:
    entries = dict(file.model_gateways)
    from_flags: Mapping[str, str] = flags.get("model_gateways") or {}
    for model, url in from_flags.items():
        entries[model] = ModelGateway(Given(url, f"--model-gateway {model}"))
    flag_values = {
        name: given[name]
        for name, value in flags.items()
        if value is not None and name in given and name not in OWN_TO_A_GATEWAY
    }
    return {
        model: gateway_config(entry.url, _for_entry(entry, given, flag_values))
        for model, entry in entries.items()
    }


def _for_entry(
    entry: ModelGateway, given: Mapping[str, Given], flags: Mapping[str, Given]
) -> dict[str, Given]:
    if entry.own is None:
        same = "gateway" in given and given["gateway"].value == entry.url.value
        left_out = frozenset[str]() if same else _not_shared(given)
        return {name: value for name, value in given.items() if name not in left_out}
    inherited = {name: value for name, value in given.items() if name not in OWN_TO_A_GATEWAY}
    return {**inherited, **entry.own, **flags}


def _not_shared(given: Mapping[str, Given]) -> frozenset[str]:
    """What speaks of one gateway alone. The key of OpenAI's SDK goes where that would send it."""
    key = given.get("api_key_env")
    of_openai = key is not None and key.place == KEY_VARIABLE
    return METRICS_SETTINGS | {"api_key_env"} if of_openai else METRICS_SETTINGS


def _count(
    default: HTTPInferenceClientConfig | None,
    routes: Mapping[str, HTTPInferenceClientConfig],
    flags: Mapping[str, Any],
    given: Mapping[str, Given],
    file: ConfigFile,
) -> int:
    """How many gateways there are: at least one, and one that picks where a setting is for it."""
    configs = {config for config in (default, *routes.values()) if config is not None}
    if not any(config.uses_endpoint_picker for config in configs):
        _refuse_picker_settings(flags, given, file)
    return len(configs)


def _refuse_picker_settings(
    flags: Mapping[str, Any], given: Mapping[str, Given], file: ConfigFile
) -> None:
    """Without a picker they do nothing. A file's may stay where its gateway is not the one used."""
    url = given.get("gateway")
    other = url is not None and (url.value == SIMULATOR or url is not file.values.get("gateway"))
    for name in PICKER_SETTINGS:
        if name in given and not (other and flags.get(name) is None):
            raise CommandFailure(
                f"{given[name].place}: does nothing without an endpoint picker, whose URL begins"
                " with grpc://"
            )


def _isolates(given: Mapping[str, Given]) -> bool:
    isolates = "isolate_models" in given and given["isolate_models"].value
    if isolates and "gateway_metrics" in given:
        raise CommandFailure(
            f"{given['gateway_metrics'].place}: which of the isolated models these metrics are of"
            " cannot be known; in a config file each of model_gateways may have gateway_metrics"
        )
    return isolates


def _no_gateway(environment: Mapping[str, str]) -> CommandFailure:
    return CommandFailure(
        "no gateway is given, so there is nowhere to send the requests. Choose one:",
        details=[
            "--gateway URL                 for example --gateway http://localhost:8000",
            f"{URL_VARIABLE}=URL         in the environment",
            "--config FILE                 with gateway: URL in it",
            "--model-gateway MODEL=URL     for one model",
            f"--gateway openai              {use_of_openai(environment)}",
            "--gateway simulator           to try it out: a simulated gateway in this process",
        ],
    )
