"""YAML config files.

Accepted at the top of a file, all optional:

- one key for every flag of `run`, spelled with underscores (`concurrency`, `tls_ca_file`, …), plus
  `headers`, `initial_backoff`, `max_backoff`, `inference_objective` and `api_key`;
- `model_gateways`, which gives models their own gateways: `MODEL: URL`, which shares every setting
  of the run, or `MODEL: {url: …, timeout: …, api_key_file: …}`, which has its own key and headers
  and takes only the rest from the run;
- the processor's original keys: `inference_gateway_url`, `inference_request_timeout`,
  `inference_api_key`, `max_job_concurrency`, and `num_workers`, `poll_interval`, `task_wait_time`;
- its newer ones: `global_inference_gateway`, `concurrency: {global, per_endpoint, recovery, aimd}`.

`concurrency: N` and `concurrency.per_endpoint` are requests in flight to each gateway, and
`concurrency: auto` finds that number by measuring;
`max_job_concurrency` and `concurrency.global` are over all gateways, which share them evenly. The
smallest counts. `num_workers`, `poll_interval`, `task_wait_time`, `concurrency.recovery` and
`concurrency.aimd` are checked and belong to a processor; `run` has no use for them. Relative paths
are relative to the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from batch_gateway.cli.config_keys import (
    AIMD_KEYS,
    CONCURRENCY_KEYS,
    CONCURRENCY_LIMIT,
    GATEWAY_SETTINGS,
    HEADER_VALUE,
    PROCESSOR_SETTINGS,
    RUN_SETTINGS,
    TOP_LEVEL_ALIASES,
    URL,
    Parser,
    Setting,
    concurrency,
)
from batch_gateway.cli.given import TOTAL_CONCURRENCY, ConfigFile, Given, ModelGateway
from batch_gateway.cli.yaml_document import YAMLDocument, compose
from batch_gateway.errors import ConfigError
from batch_gateway.http.header_rules import check_headers

__all__ = ["load_config_file"]

Values = dict[str, Given]

_COMMAND_LINE_ONLY = {
    "fresh": "is for the command line alone: in a file it would throw results away at every resume",
    "retry_failed": "is for the command line alone: in a file it would repeat at every resume",
    "config": "is for the command line alone",
}
_DEFAULT_INTERVALS = {"task_wait_time": 1.0, "poll_interval": 5.0}


def load_config_file(path: Path) -> ConfigFile:
    """Read `path`. Raises CommandFailure with every problem and its line."""
    root = compose(path)
    if root is None:
        return ConfigFile()
    document = YAMLDocument(path)
    config = _Reader(document).read(root)
    document.raise_problems()
    return config


def _by_name(*groups: tuple[Setting, ...]) -> dict[str, Setting]:
    return {name: setting for group in groups for setting in group for name in setting.names}


_IN_GATEWAY = _by_name(GATEWAY_SETTINGS, (Setting("gateway", URL, ("url",)),))
_AT_TOP = _by_name(RUN_SETTINGS, GATEWAY_SETTINGS, TOP_LEVEL_ALIASES)
_FOR_PROCESSOR = _by_name(PROCESSOR_SETTINGS)


class _Reader:
    """Sorts the keys of a document into our settings."""

    def __init__(self, document: YAMLDocument) -> None:
        self._document = document
        self._values: Values = {}
        self._processor: Values = {}
        self._limits: dict[str, list[Given]] = {}
        self._model_gateways: dict[str, ModelGateway] = {}
        self._sections = {
            "headers": self._run_headers,
            "concurrency": self._concurrency,
            "max_job_concurrency": self._total_limit,
            "global_inference_gateway": self._global_gateway,
            "model_gateways": self._gateways_by_model,
        }

    def read(self, root: yaml.Node) -> ConfigFile:
        sections: dict[str, yaml.Node] = {}
        for key, key_node, node in self._document.entries(root, "the file"):
            sections[key] = key_node
            if key in self._sections:
                self._sections[key](key, node)
            elif key in _FOR_PROCESSOR:
                self._set(self._processor, _FOR_PROCESSOR[key], key, node)
            elif key in _AT_TOP:
                self._set(self._values, _AT_TOP[key], key, node)
            elif key in _COMMAND_LINE_ONLY:
                self._document.problem(key_node, f"{key} {_COMMAND_LINE_ONLY[key]}")
            else:
                valid = {*self._sections, *_FOR_PROCESSOR, *_AT_TOP}
                self._document.unknown_key(key_node, key, valid)
        self._check_sections(root, sections)
        for name, limits in self._limits.items():
            self._values[name] = min(limits, key=lambda limit: limit.value)
        return ConfigFile(self._values, self._model_gateways)

    def _check_sections(self, root: yaml.Node, sections: Mapping[str, yaml.Node]) -> None:
        if {"global_inference_gateway", "model_gateways"} <= sections.keys():
            self._document.problem(
                sections["model_gateways"],
                "model_gateways and global_inference_gateway exclude each other; "
                "for a default beside model_gateways write gateway: URL",
            )
        intervals = [
            self._processor[name].value if name in self._processor else default
            for name, default in _DEFAULT_INTERVALS.items()
        ]
        if intervals[0] >= intervals[1]:
            given = (sections[name] for name in _DEFAULT_INTERVALS if name in sections)
            self._document.problem(
                next(given, root),
                f"task_wait_time: {intervals[0]:g}s must be shorter than "
                f"poll_interval, {intervals[1]:g}s",
            )

    def _set(self, into: Values, setting: Setting, key: str, node: yaml.Node) -> None:
        if setting.several and isinstance(node, yaml.SequenceNode):
            given = (self._document.scalar(item, key, setting.parse) for item in node.value)
            value: object = tuple(item for item in given if item is not None) or None
        else:
            value = self._document.scalar(node, key, setting.parse)
        if value is not None:
            self._store(into, setting.name, key, node, value)

    def _store(self, into: Values, name: str, key: str, node: yaml.Node, value: object) -> None:
        if name in into:
            self._document.problem(node, f"{key} is set already, by {into[name].place}")
            return
        into[name] = self._document.located(node, key, value)

    def _run_headers(self, key: str, node: yaml.Node) -> None:
        self._headers(self._values, key, node)

    def _headers(self, into: Values, key: str, node: yaml.Node) -> None:
        headers: dict[str, str] = {}
        for name, key_node, value_node in self._document.entries(node, key):
            value = self._document.scalar(value_node, f"{key}.{name}", HEADER_VALUE)
            if value is None:
                continue
            headers[name] = str(value)
            try:
                check_headers(key, {name: str(value)})
            except ConfigError as error:
                self._document.problem(key_node, str(error))
        self._store(into, "headers", key, node, headers)

    def _concurrency(self, key: str, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode):
            self._limit("concurrency", key, node, concurrency)
            return
        checked = _by_name(CONCURRENCY_KEYS)
        for name, key_node, value_node in self._document.entries(node, key):
            full = f"{key}.{name}"
            if name == "global":
                self._total_limit(full, value_node)
            elif name == "per_endpoint":
                self._limit("concurrency", full, value_node)
            elif name == "aimd":
                self._aimd(full, value_node)
            elif name in checked:
                self._document.scalar(value_node, full, checked[name].parse)
            else:
                self._document.unknown_key(key_node, name, {*checked, "aimd"})

    def _aimd(self, key: str, node: yaml.Node) -> None:
        checked = _by_name(AIMD_KEYS)
        for name, key_node, value_node in self._document.entries(node, key):
            if name in checked:
                self._document.scalar(value_node, f"{key}.{name}", checked[name].parse)
            else:
                self._document.unknown_key(key_node, name, checked)

    def _total_limit(self, key: str, node: yaml.Node) -> None:
        self._limit(TOTAL_CONCURRENCY, key, node)

    def _limit(
        self, name: str, key: str, node: yaml.Node, parse: Parser = CONCURRENCY_LIMIT
    ) -> None:
        value = self._document.scalar(node, key, parse)
        if value is not None:
            limit = self._document.located(node, key, value)
            self._limits.setdefault(name, []).append(limit)

    def _gateway(self, key: str, node: yaml.Node) -> Values:
        own: Values = {}
        for name, key_node, value_node in self._document.entries(node, key):
            if name == "headers":
                self._headers(own, f"{key}.{name}", value_node)
            elif name in _IN_GATEWAY:
                self._set(own, _IN_GATEWAY[name], f"{key}.{name}", value_node)
            else:
                self._document.unknown_key(key_node, name, {*_IN_GATEWAY, "headers"})
        if isinstance(node, yaml.MappingNode) and "gateway" not in own:
            self._document.problem(node, f"{key} needs a url")
        return own

    def _global_gateway(self, key: str, node: yaml.Node) -> None:
        for name, located in self._gateway(key, node).items():
            if name in self._values:
                self._document.problem(
                    node, f"{key} sets {name}, which is set already, by {self._values[name].place}"
                )
            else:
                self._values[name] = located

    def _gateways_by_model(self, key: str, node: yaml.Node) -> None:
        for model, _, value_node in self._document.entries(node, key):
            full = f"{key}.{model}"
            if isinstance(value_node, yaml.ScalarNode):
                url = self._document.scalar(value_node, full, URL)
                if url is not None:
                    located = self._document.located(value_node, full, url)
                    self._model_gateways[model] = ModelGateway(located)
                continue
            own = self._gateway(full, value_node)
            url_value = own.pop("gateway", None)
            if url_value is not None:
                self._model_gateways[model] = ModelGateway(url_value, own)
