"""A YAML mapping walked node by node, so that every problem keeps its line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from batch_gateway.cli.config_keys import Parser, Scalar
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.given import Given
from batch_gateway.errors import ConfigError

__all__ = ["YAMLDocument", "compose"]


def compose(path: Path) -> yaml.Node | None:
    """The root node of the file, None when it is empty. Raises CommandFailure with the place."""
    wrong = f"the config file {path} is not valid YAML"
    try:
        return yaml.compose(path.read_text("utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise CommandFailure(f"cannot read the config file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandFailure(f"the config file {path} is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise CommandFailure(wrong, details=[f"{where}{error.problem}"]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise CommandFailure(wrong, details=[str(error).partition("\n")[0]]) from error


class YAMLDocument:
    """Collects what is wrong with a document instead of stopping at the first problem."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[tuple[int, str]] = []

    def raise_problems(self) -> None:
        """Raises CommandFailure with everything noted so far, in the order of the lines."""
        if self._problems:
            details = [f"{self._path}:{line}: {text}" for line, text in sorted(self._problems)]
            raise CommandFailure(f"the config file {self._path} is wrong", details=details)

    def problem(self, node: yaml.Node, text: str) -> None:
        self._problems.append((_line(node), text))

    def unknown_key(self, node: yaml.Node, key: str, valid: Collection[str]) -> None:
        near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(sorted(valid))}"
        self.problem(node, f"unknown key {key}; {hint}")

    def located(self, node: yaml.Node, key: str, value: object) -> Given:
        return Given(value, f"{self._path}:{_line(node)}: {key}")

    def entries(self, node: yaml.Node, where: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """(key, key node, value node) of a mapping; duplicates are noted and left out."""
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

    def scalar(self, node: yaml.Node, key: str, parse: Parser) -> object | None:
        """The value; None when it is empty, which leaves the default, or wrong, which is noted."""
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, f"{key} must be a single value")
            return None
        try:
            value = _construct(node)
        except (yaml.YAMLError, ValueError):
            self.problem(node, f"{key} has a value that cannot be read; put it in quotes")
            return None
        if value is None:
            return None
        try:
            return parse(key, Scalar(value, node.value, self._path.parent))
        except ConfigError as error:
            self.problem(node, str(error))
            return None


def _construct(node: yaml.ScalarNode) -> object:
    constructor = yaml.constructor.SafeConstructor()
    return constructor.construct_object(node)  # pyright: ignore[reportUnknownMemberType]


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
