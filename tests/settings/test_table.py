"""The table says what the client and the engine do where nothing is set."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, cast, get_args

import pytest

from batch_gateway import BatchRun, HTTPInferenceClientConfig
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.coalesce.coalesce_policy import CoalescePolicy
from batch_gateway.client.layers.concurrency.gateway_metrics import GatewayMetrics
from batch_gateway.engine.plan import Order
from batch_gateway.http.tls import TLSConfig
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.settings.table import GATEWAY_SETTINGS, GROUPS, SETTINGS, settings_of

# What a gateway has once the setting that switches it on is given.
PARTS: dict[str, Any] = {
    "": HTTPInferenceClientConfig(),
    "retry": HTTPInferenceClientConfig().retry,
    "circuit_breaker": patient_breaker(),
    "cache": CacheConfig("answers"),
    "coalesce": CoalescePolicy(max_requests=2),
    "gateway_metrics": GatewayMetrics("http://g/metrics"),
    "tls": TLSConfig(),
    "pod_tls": TLSConfig(),
    "endpoint_picker": EndpointPickerConfig(),
}


@pytest.mark.parametrize("name", [name for name, one in GATEWAY_SETTINGS.items() if one.default])
def test_the_default_that_is_shown_is_the_clients(name: str) -> None:
    part, _, field = GATEWAY_SETTINGS[name].field.rpartition(".")
    assert getattr(PARTS[part], field) == GATEWAY_SETTINGS[name].default_value


def test_no_setting_that_has_a_default_in_the_client_leaves_it_out() -> None:
    for name, one in GATEWAY_SETTINGS.items():
        part, _, field = one.field.rpartition(".")
        if part in PARTS and field != "on" and not (one.default or one.otherwise or one.is_hidden):
            given = {each.name for each in dataclasses.fields(PARTS[part])}
            assert field in given, one.field
            assert name in ("gateway", "cache", "coalesce", "gateway_metrics") or not getattr(
                PARTS[part], field
            )


def test_the_defaults_of_a_run_are_those_of_the_library() -> None:
    library = inspect.signature(BatchRun).parameters
    shared = {name for name in library if name in SETTINGS and library[name].default is not None}
    for name in shared:
        # What can be repeated is not given by default, be it None or nothing.
        assert (library[name].default or False) == (SETTINGS[name].default_value or False), name
    assert shared >= {"concurrency", "max_bytes_in_flight", "order", "ordered"}
    assert SETTINGS["order"].kind.choices == cast("tuple[str, ...]", get_args(Order))


def test_no_two_settings_have_a_name_a_flag_or_a_variable_in_common() -> None:
    rows = [one for group in GROUPS.values() for one in group]
    for names in (
        [name for one in rows for name in (one.name, *one.aliases)],
        # Of `batches` one is the key of another server, as only that command knows it.
        [(flag, one.only) for one in rows for flag in (one.flag_name, one.short) if flag],
        [variable for one in rows for variable in one.variables],
        [one.field for one in rows if one.field],
    ):
        assert len(names) == len(set(names))
    assert all(one.needs in ("", *SETTINGS) for one in rows)


def test_a_command_picks_its_rows() -> None:
    of_run = {one.name for group in settings_of("run").values() for one in group}
    of_serve = {one.name for group in settings_of("serve").values() for one in group}
    assert of_run - of_serve >= {"output", "fresh"}
    assert {"gateway", "concurrency"} <= of_run & of_serve
