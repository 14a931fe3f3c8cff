"""Each message of the page on trouble is one that the program says, some of them seen here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway, write_batch
from tests.documents.blocks import ROOT
from tests.test_architecture import MODULES

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
ANYTHING = "…"


def text_of(node: ast.AST) -> str | None:
    """What an expression says, with a mark where a value is put in; None if it is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or ANYTHING for part in node.values)
    return None


def documentation(tree: ast.AST) -> set[int]:
    """Strings that stand as statements: nobody who runs the program sees them."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@cache
def said() -> tuple[str, ...]:
    def texts() -> Iterator[str]:
        for path in MODULES:
            tree = ast.parse(path.read_text("utf-8"))
            unseen = documentation(tree)
            for node in ast.walk(tree):
                text = None if id(node) in unseen else text_of(node)
                if text:
                    yield text

    return tuple(texts())


def pattern(message: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, message.split(ANYTHING))), re.DOTALL)


def test_the_page_has_messages_of_every_kind() -> None:
    assert len(MESSAGES) > 30
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_is_one_that_the_program_says(message: str) -> None:
    assert any(pattern(message).search(text) for text in said())


def test_a_message_that_nobody_says_would_be_found_out() -> None:
    assert not any(pattern("the moon is in the way of …").search(text) for text in said())


def shown(words: str) -> str:
    """The message of the page that has these words."""
    [message] = [one for one in MESSAGES if words in one]
    return message


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("no gateway is given", ["run", "b.jsonl"]),
        ("cannot be resolved", ["run", "b.jsonl", "--gateway", "http://nobody.invalid:1"]),
        ("is larger than max", ["run", "b.jsonl", "--gateway", "URL", "--max-response-bytes", "9"]),
        ("names no model", ["run", "r.csv", "--template", "{a}", "--gateway", "URL"]),
        ("names the column", ["run", "r.csv", "--template", "{x}", "--gateway", "URL"]),
        ("has no column prompt", ["run", "r.csv", "--model", "m", "--gateway", "URL"]),
        ("is not a regular file", ["run", "b.jsonl", "--gateway", "URL", "-o", "/dev/null"]),
        ("is a zip archive", ["run", "z.jsonl", "--gateway", "URL"]),
        ("not UTF-8", ["validate", "l.jsonl"]),
        ("already used", ["validate", "twice.jsonl"]),
        ("does not look like", ["batches", "list", "--server", "URL"]),
        ("No such", ["rum"]),
    ],
)
def test_messages_are_seen_as_the_page_has_them(
    words: str, arguments: list[str], tmp_path: Path
) -> None:
    line = write_batch(tmp_path / "b.jsonl", 1).read_bytes()
    (tmp_path / "r.csv").write_text("a,b\n1,2\n")
    (tmp_path / "z.jsonl").write_bytes(b"PK\x03\x04" + bytes(60))
    (tmp_path / "l.jsonl").write_bytes(line.replace(b'"custom_id"', b'"\xe9"'))
    (tmp_path / "twice.jsonl").write_bytes(line * 2)
    with simulated_gateway() as gateway:
        given = [gateway.url if one == "URL" else one for one in arguments]
        done = batch_gateway(*given, cwd=tmp_path)
    assert done.returncode != 0
    assert pattern(shown(words)).search(done.stdout + done.stderr), done.stdout + done.stderr
