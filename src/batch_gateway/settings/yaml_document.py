"""A YAML mapping walked node by node, so that every problem keeps its line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from batch_gateway.errors import ConfigError
from batch_gateway.http.header_rules import check_headers
from batch_gateway.settings.nearest import nearest
from batch_gateway.settings.setting import Given, Setting

__all__ = ["YAMLDocument", "compose", "is_empty"]

# More names say nothing to a person.
_FEW = 20
_TAG = "tag:yaml.org,2002:"
_NUMBERS = frozenset({f"{_TAG}int", f"{_TAG}float"})
_TEXTS = _NUMBERS | {f"{_TAG}{name}" for name in ("str", "bool", "timestamp", "merge", "value")}


def compose(path: Path, place: str) -> yaml.Node | None:
    """The root node of the file, None when it is empty. Raises ConfigError with the place."""
    wrong = f"the config file {path} is not valid YAML"
    try:
        return yaml.compose(path.read_text("utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(place, f"cannot read the config file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(place, f"the config file {path} is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise ConfigError(place, wrong, problems=[f"{where}{error.problem}"]) from error
    except RecursionError as error:
        raise ConfigError(place, wrong, problems=[f"{path}: it is nested too deeply"]) from error
    except (yaml.YAMLError, ValueError) as error:
        what, _, _ = str(error).partition("\n")
        raise ConfigError(place, wrong, problems=[f"{path}: {what}"]) from error


def is_empty(node: yaml.Node) -> bool:
    """Whether nothing is said: no value, or one without entries."""
    return node.tag == f"{_TAG}null" or not node.value


class YAMLDocument:
    """Collects what is wrong with a document instead of stopping at the first problem."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[tuple[int, str]] = []

    def raise_problems(self, place: str) -> None:
        """Raises ConfigError with everything noted so far, in the order of the lines."""
        if self._problems:
            problems = [f"{self._path}:{line}: {text}" for line, text in sorted(self._problems)]
            raise ConfigError(place, f"the config file {self._path} is wrong", problems=problems)

    def problem(self, node: yaml.Node, text: str) -> None:
        self._problems.append((_line(node), text))

    def unknown_key(self, node: yaml.Node, key: str, valid: Collection[str]) -> None:
        near = nearest(key, valid)
        few = sorted(valid) if len(valid) < _FEW else ["the flags of --help-all, with underscores"]
        hint = f"did you mean {near}?" if near else f"valid here: {', '.join(few)}"
        self.problem(node, f"unknown key {key}; {hint}")

    def located(self, node: yaml.Node, key: str, value: object) -> Given:
        return Given(value, f"{self._path}:{_line(node)}: {key}")

    def entries(self, node: yaml.Node, where: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """(key, key node, value node) of a mapping; duplicates are noted and left out."""
        if is_empty(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{where} must be a mapping of keys to values")
            return
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
                self.problem(key_node, f"a key of {where} is not plain text")
            elif key in first_line:
                self.problem(key_node, f"{key} is already set on line {first_line[key]}")
            else:
                first_line[key] = _line(key_node)
                yield key, key_node, value_node

    def value(self, node: yaml.Node, key: str, setting: Setting) -> Any:
        """The value; None when it is empty, which leaves the default, or wrong, which is noted."""
        if setting.kind.several == "pairs":
            return self._pairs(node, key, setting)
        if setting.kind.several:
            nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
            found = (self._single(item, key, setting) for item in nodes)
            return tuple(item for item in found if item) or None
        value = self._single(node, key, setting)
        return None if value == "" else value

    def _pairs(self, node: yaml.Node, key: str, setting: Setting) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, key_node, value_node in self.entries(node, key):
            value = self._single(value_node, f"{key}.{name}", setting)
            if value is None:
                continue
            values[name] = value
            try:
                check_headers(key, {name: value})
            except ConfigError as error:
                self.problem(key_node, str(error))
        return values

    def _single(self, node: yaml.Node, key: str, setting: Setting) -> Any:
        text = self._text(node, key, is_number=setting.kind.is_number)
        if text is None:
            return None
        try:
            return setting.parse(key, text, self._path.parent) if text else text
        except ConfigError as error:
            self.problem(node, str(error))
            return None

    def _text(self, node: yaml.Node, key: str, *, is_number: bool) -> str | None:
        """A scalar as it stands in the file, a number as a number if one is wanted."""
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, f"{key} must be a single value")
            return None
        if node.tag == f"{_TAG}null":
            return None
        try:
            if is_number and node.tag in _NUMBERS:
                constructor = yaml.constructor.SafeConstructor()
                return str(constructor.construct_object(node))  # pyright: ignore[reportUnknownMemberType]
            if node.tag in _TEXTS:
                return node.value
        except (yaml.YAMLError, ValueError, OverflowError):
            pass
        self.problem(node, f"{key} has a value that cannot be read; put it in quotes")
        return None


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
