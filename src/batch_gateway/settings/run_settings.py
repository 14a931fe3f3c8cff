"""Flags, environment, config file and defaults, merged into what a run needs.

A flag wins over the environment, the environment over the config file, and that over the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import MOST_CONCURRENCY, paced
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.plan import Order
from batch_gateway.errors import ConfigError
from batch_gateway.report.threshold import Threshold
from batch_gateway.settings.kinds import AUTO
from batch_gateway.settings.layers import Layers, require_what_is_needed
from batch_gateway.settings.openai_variables import use_of_openai
from batch_gateway.settings.routes import Routes
from batch_gateway.settings.setting import ConfigFile
from batch_gateway.settings.table import SETTINGS
from batch_gateway.settings.variables import unknown_variables

__all__ = ["LogFormat", "RunSettings", "read_config_file", "resolve_settings"]

LogFormat = Literal["text", "json"]

# A bound on open files below that may be what holds a run back.
_ENOUGH_CONNECTIONS = 1_000


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
        report_data: where its figures go, or None.
        fail_if: conditions under which the finished run counts as failed.
        table: where the table of answers goes, or None.
        fields: its columns that are picked from answers.
        warnings: what was given and may be a mistake, a sentence each.
        notes: what was given and does nothing in a run, likewise.
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
    report_data: Path | None
    fail_if: Sequence[Threshold]
    table: Path | None
    fields: Sequence[str]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> bool:
        """Whether somebody wants to know how long answers took."""
        return self.json or self.report_data is not None or bool(self.fail_if)

    @property
    def configs(self) -> tuple[HTTPInferenceClientConfig, ...]:
        """Those of all gateways, the one of the rest first where there is one."""
        default = () if self.gateway is None else (self.gateway,)
        return (*default, *self.model_gateways.values())

    @property
    def caches(self) -> frozenset[Path]:
        """Where answers are kept."""
        caches = (config.cache for config in self.configs)
        return frozenset(Path(cache.path) for cache in caches if cache is not None)


# Those of the table whose values a run takes as they are.
_AS_GIVEN = (
    "deadline", "max_bytes_in_flight", "max_failures", "output", "errors", "order", "ordered",
    "fresh", "retry_failed", "json", "quiet", "metrics_port", "metrics_host", "otel", "log_format",
    "log_level", "report", "report_data", "table",
)  # fmt: skip


def read_config_file(
    config: Path | None, environment: Mapping[str, str], command: str = "run"
) -> ConfigFile:
    """The file that a flag or else a variable names. Raises ConfigError with its lines."""
    place, variable = "--config", SETTINGS["config"].variables[0]
    if config is None and environment.get(variable, "").strip():
        place, config = variable, SETTINGS["config"].parse(variable, environment[variable].strip())
    if config is None:
        return ConfigFile()
    # Importing YAML takes a sixth of the time that the command takes to start.
    from batch_gateway.settings.config_file import load_config_file  # noqa: PLC0415

    return load_config_file(config, place, command)


def resolve_settings(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    file: ConfigFile,
    *,
    command: str = "run",
    most_connections: int = MOST_CONCURRENCY,
    needs_gateway: bool = True,
) -> RunSettings:
    """Merge and check. `flags` are under setting names, None where not given.

    `most_connections` is what the process can have open over all gateways. Without
    `needs_gateway` there may be none.

    `headers` and `model_gateways` among them are mappings. Raises ConfigError.
    """
    if flags.get("fresh") and flags.get("retry_failed"):
        raise ConfigError(
            "--fresh", "discards the failed lines that --retry-failed would send; choose one"
        )
    layers = Layers(command, flags, environment, file)

    def value(name: str) -> Any:
        return layers.given[name].value if name in layers.given else SETTINGS[name].default_value

    routes = Routes.of(layers)
    if needs_gateway and not routes.configs:
        raise _no_gateway(environment)
    gateways, concurrency, total = max(1, len(routes.configs)), value("concurrency"), None
    if concurrency == AUTO or not layers.is_above("concurrency", "max_job_concurrency"):
        total = value("max_job_concurrency")
    # With the simulator in this process, both ends of a connection are here.
    by_files = most_connections // (2 if routes.uses_simulator else 1) // gateways
    most = _most_each(concurrency, total, gateways, by_files)
    is_found, isolates = concurrency == AUTO, _isolates(layers)
    pace = partial(paced, most=most, adaptive=is_found)
    require_what_is_needed(layers.given, ["fields"])
    return RunSettings(
        gateway=None if routes.default is None else pace(routes.default),
        gateways=gateways,
        isolate_models=isolates,
        uses_simulator=routes.uses_simulator,
        model_gateways={model: pace(config) for model, config in routes.by_model.items()},
        concurrency=None if is_found else most,
        most_by_files=most if is_found and by_files <= most < _ENOUGH_CONNECTIONS else None,
        what_bounds=_what_bounds(most, by_files, isolates=isolates),
        warnings=unknown_variables(environment),
        notes=file.notes,
        fields=value("fields") or (),
        fail_if=value("fail_if") or (),
        **{name: value(name) for name in _AS_GIVEN},
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


def _isolates(layers: Layers) -> bool:
    given = layers.given
    isolates = "isolate_models" in given and given["isolate_models"].value
    if isolates and "gateway_metrics" in given:
        raise ConfigError(
            given["gateway_metrics"].place,
            "which of the isolated models these metrics are of cannot be known; in a config file"
            " each of model_gateways may have gateway_metrics",
        )
    return isolates


def _no_gateway(environment: Mapping[str, str]) -> ConfigError:
    variable = SETTINGS["gateway"].variables[0]
    return ConfigError(
        "--gateway",
        "no gateway is given, so there is nowhere to send the requests. Choose one:",
        problems=[
            "--gateway URL                 for example --gateway http://localhost:8000",
            f"{variable}=URL         in the environment",
            "--config FILE                 with gateway: URL in it",
            "--model-gateway MODEL=URL     for one model",
            f"--gateway openai              {use_of_openai(environment)}",
            "--gateway simulator           to try it out: a simulated gateway in this process",
        ],
    )
