"""YAML config files: every setting by its name, and the files of batch processors as they are.

Accepted at the top of a file, all optional: every setting of the table but those of the command
line alone; `model_gateways`, which gives models their own gateways: `MODEL: URL`, which shares
every setting of the run, or `MODEL: {url: …, timeout: …, api_key_file: …}`, which has its own key
and headers and takes only the rest from the run; `global_inference_gateway`, the default gateway in
that form; and what a processor alone has use for, which is checked. Relative paths are relative to
the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import yaml

from batch_gateway.settings.kinds import SECRET_NAME
from batch_gateway.settings.processor_keys import FOR_A_SERVICE, PROCESSOR_KEYS, ProcessorKey
from batch_gateway.settings.setting import ConfigFile, Given, ModelGateway, Setting
from batch_gateway.settings.table import GATEWAY_SETTINGS, SETTINGS
from batch_gateway.settings.yaml_document import YAMLDocument, compose, is_empty

__all__ = ["load_config_file"]

Names = Mapping[str, Setting | ProcessorKey]
Values = dict[str, Given]
Entry = tuple[yaml.Node, yaml.Node]
"""A key and its value."""

_ONE_GATEWAY, _GATEWAYS = "global_inference_gateway", "model_gateways"
# Several names of it may stand in one file; the smallest counts.
_TOTAL = "max_job_concurrency"
_INTERVALS = {"task_wait_time": 1.0, "poll_interval": 5.0}


def load_config_file(path: Path, place: str = "--config", command: str = "run") -> ConfigFile:
    """Read `path`, which was given at `place`. Raises ConfigError with every problem's line."""
    root = compose(path, place)
    if root is None:
        return ConfigFile()
    document = YAMLDocument(path)
    config = _Reader(document, path, command).read(root)
    document.raise_problems(place)
    return config


def _by_name(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    return {name: one for one in settings.values() for name in (one.name, *one.aliases)}


_AT_TOP: Names = {
    **_by_name(SETTINGS),
    **PROCESSOR_KEYS,
    _ONE_GATEWAY: SETTINGS["gateway"],
}
_IN_GATEWAY: Names = {
    **_by_name(GATEWAY_SETTINGS),
    "url": SETTINGS["gateway"],
    "api_key_name": Setting("api_key_file", SECRET_NAME, ""),
    "inference_pool_name": PROCESSOR_KEYS["inference_pool_name"],
}


class _Reader:
    """Sorts the keys of a document into our settings."""

    def __init__(self, document: YAMLDocument, path: Path, command: str) -> None:
        self._document = document
        self._path = path
        self._command = command
        self._values: Values = {}
        self._intervals: dict[str, float] = dict(_INTERVALS)
        # Keys that do nothing, by the reason.
        self._unused: dict[str, list[str]] = {}
        self._model_gateways: dict[str, ModelGateway] = {}

    def read(self, root: yaml.Node) -> ConfigFile:
        keys: dict[str, yaml.Node] = {}
        for key, key_node, node in self._document.entries(root, "the file"):
            # A template leaves the other way of giving gateways empty.
            if key not in (_ONE_GATEWAY, _GATEWAYS) or not is_empty(node):
                keys[key] = key_node
            if key == _ONE_GATEWAY:
                self._global_gateway(key, node)
            elif key == _GATEWAYS:
                self._gateways_by_model(key, node)
            else:
                self._entry(self._values, _AT_TOP, key, key, (key_node, node))
        if {_ONE_GATEWAY, _GATEWAYS} <= keys.keys():
            self._document.problem(
                keys[_GATEWAYS],
                f"{_GATEWAYS} and {_ONE_GATEWAY} exclude each other; "
                f"for a default beside {_GATEWAYS} write gateway: URL",
            )
        self._check_intervals(keys)
        return ConfigFile(self._values, self._model_gateways, self._notes())

    def _entry(self, into: Values, names: Names, name: str, shown: str, entry: Entry) -> None:
        """Read what stands at the key `name` of `names`, which messages call `shown`."""
        key_node, node = entry
        is_section = name not in names or isinstance(node, yaml.MappingNode)
        if is_section and any(_keys_within(names, f"{name}.")):
            for key, *within in self._document.entries(node, shown):
                self._entry(into, names, f"{name}.{key}", f"{shown}.{key}", (within[0], within[1]))
        elif name in names:
            self._take(into, names[name], name, shown, entry)
        else:
            above, _, key = name.rpartition(".")
            valid = {*_keys_within(names, f"{above}." if above else "")}
            self._document.unknown_key(key_node, key, valid)

    def _take(
        self, into: Values, key: Setting | ProcessorKey, name: str, shown: str, entry: Entry
    ) -> None:
        if isinstance(key, Setting) and key.is_of(self._command):
            self._set(into, key, shown, entry)
            if name in self._intervals and name in into:
                self._intervals[name] = into[name].value
            return
        if isinstance(key, Setting):
            why = _for_others(key)
        else:
            why = (self._command == "serve" and key.in_service) or key.why
        self._unused.setdefault(why, []).append(shown)
        if key.kind is not None:
            value = self._document.value(entry[1], shown, Setting(name, key.kind, ""))
            if name in self._intervals and value is not None:
                self._intervals[name] = value

    def _notes(self) -> tuple[str, ...]:
        return tuple(
            f"{self._path}: {', '.join(keys)}: nothing to do in {self._command}, {why}"
            for why, keys in self._unused.items()
        )

    def _set(self, into: Values, setting: Setting, shown: str, entry: Entry) -> None:
        key_node, node = entry
        if setting.only_flag or setting.name == "config":
            it_would = setting.only_flag or "would name another"
            self._document.problem(
                key_node, f"{shown} is for the command line alone: in a file it {it_would}"
            )
            return
        value = self._document.value(node, shown, setting)
        if value is None:
            return
        if setting.name == "timeout" and shown.endswith("request_timeout") and value == 0:
            value = math.inf  # which is what it means where that name comes from
        before = into.get(setting.name)
        if before is None or (setting.name == _TOTAL and value < before.value):
            into[setting.name] = self._document.located(node, shown, value)
        elif setting.name != _TOTAL:
            self._document.problem(node, f"{shown} is set already, by {before.place}")

    def _check_intervals(self, keys: Mapping[str, yaml.Node]) -> None:
        wait, poll = self._intervals.values()
        # A service asks at its own pace unless the file is one of a processor that waits.
        is_asked = self._command != "serve" or "task_wait_time" in keys
        if wait >= poll and is_asked:
            self._document.problem(
                next(keys[name] for name in _INTERVALS if name in keys),
                f"task_wait_time: {wait:g}s must be shorter than poll_interval, {poll:g}s",
            )

    def _global_gateway(self, shown: str, node: yaml.Node) -> None:
        for name, given in self._gateway(shown, node).items():
            if name in self._values:
                before = self._values[name].place
                self._document.problem(
                    node, f"{shown} sets {name}, which is set already, by {before}"
                )
            else:
                self._values[name] = given

    def _gateways_by_model(self, shown: str, node: yaml.Node) -> None:
        for model, key_node, value in self._document.entries(node, shown):
            own: Values | None = None
            if isinstance(value, yaml.ScalarNode):
                short: Values = {}
                self._set(short, SETTINGS["gateway"], f"{shown}.{model}", (key_node, value))
                url = short.get("gateway")
            else:
                own = self._gateway(f"{shown}.{model}", value)
                url = own.pop("gateway", None)
            if url is not None:
                self._model_gateways[model] = ModelGateway(url, own)

    def _gateway(self, shown: str, node: yaml.Node) -> Values:
        own: Values = {}
        for key, key_node, value in self._document.entries(node, shown):
            self._entry(own, _IN_GATEWAY, key, f"{shown}.{key}", (key_node, value))
        if isinstance(node, yaml.MappingNode) and "gateway" not in own:
            self._document.problem(node, f"{shown} needs a url")
        return own


def _for_others(setting: Setting) -> str:
    is_of_service = "serve" in setting.only
    return FOR_A_SERVICE if is_of_service else f"for {' and '.join(setting.only)} alone"


def _keys_within(names: Collection[str], prefix: str) -> Iterator[str]:
    return (name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix))
