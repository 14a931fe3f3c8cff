"""The manifest of specified behaviours and the tests that show them agree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.server.behaviours import BEHAVIOURS

TESTS = Path(__file__).parent.parent


def named_behaviours() -> Iterator[tuple[str, str]]:
    """(id, test) of each `@pytest.mark.specified(id, …)` above a test."""
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text("utf-8")
        if "mark.specified" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("specified"):
                    assert node.name.startswith("test_"), node.name
                    yield from ((ast.literal_eval(name), node.name) for name in mark.args)


def test_every_specified_behaviour_has_a_test_and_every_named_one_is_specified() -> None:
    assert {name for name, _ in named_behaviours()} == set(BEHAVIOURS)


def test_the_manifest_is_sorted_and_says_sentences() -> None:
    assert list(BEHAVIOURS) == sorted(BEHAVIOURS)
    assert all(behaviour.sentence.endswith(".") for behaviour in BEHAVIOURS.values())
    assert len({behaviour.sentence for behaviour in BEHAVIOURS.values()}) == len(BEHAVIOURS)
