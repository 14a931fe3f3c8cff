"""The pages for who changes the code say what is so: layers, the walk of a line, paths, names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_gateway.client.build import build_exchanger
from batch_gateway.client.client import build_stack
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.instrumentation import GatewayEvents, Observer
from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.coalesce.coalesce_policy import CoalescePolicy
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.clock import SYSTEM_CLOCK
from benchmarks.walk import walk
from tests.test_architecture import MODULES
from tests.test_architecture import ROOT as PACKAGE

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "ARCHITECTURE.md", ROOT / "docs" / "contributing.md"]
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w./-]*(?:/|\.(?:py|md|toml))|\.ci/\w+")
_NAME = re.compile(r"(?!batch_gateway)(?:[A-Z]\w+|[a-z]\w*_\w+)(?:\.\w+)?(?:\(\))?")


def marked(page: Path, mark: str) -> str:
    """What stands between a mark in a page and the next heading or empty line behind a block."""
    text = page.read_text("utf-8").partition(f"<!-- {mark} -->\n")[2]
    return text.partition("\n## ")[0]


class Listener(Observer):
    def request_finished(self, event: object) -> None: ...


def test_the_layers_are_listed_as_a_request_passes_them(tmp_path: Path) -> None:
    config = HTTPInferenceClientConfig(
        "http://localhost",
        cache=CacheConfig(tmp_path / "cache"),
        circuit_breaker=CircuitBreakerPolicy(),
        coalesce=CoalescePolicy(2),
        scheduling=SchedulingHints(objective="batch"),
        api_key="key",
        renew_key_from=tmp_path / "key",
    )
    events = GatewayEvents("gateway", [Listener()])
    layer: object = build_stack(config, build_exchanger(config), SYSTEM_CLOCK, events)
    stack = list[tuple[str, str]]()
    while type(layer).__name__.endswith("Transport"):
        path = type(layer).__module__.replace(".", "/").partition("/")[2]
        stack.append((type(layer).__name__, f"{path}.py"))
        layer = getattr(layer, "_inner", None)
    rows = re.findall(r"^\| `(\w+)` \| `([\w/.]+)` \|", marked(PAGES[0], "layers"), re.MULTILINE)
    assert rows == stack


def test_a_line_passes_the_files_that_its_life_tells_of() -> None:
    passed = {str(Path(code.co_filename).relative_to(PACKAGE)) for code in walk()}
    told = [code for code in _CODE.findall(marked(PAGES[0], "walk")) if code.endswith(".py")]
    assert set(told) <= passed
    assert told


def mentions(page: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    return (code for code in _CODE.findall(page.read_text("utf-8")) if pattern.fullmatch(code))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_is_named_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    places = {*mentions(page, _PATH), *links}
    assert places
    roots = (ROOT, PACKAGE, page.parent)
    assert [p for p in places if not any((root / p).exists() for root in roots)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_that_is_named_is_there(page: Path) -> None:
    sources = (*MODULES, *(ROOT / "tests").rglob("*.py"))
    code = "\n".join(path.read_text("utf-8") for path in sources)
    full_names = (name for name in mentions(page, _NAME) if not _PATH.fullmatch(name))
    names = {part for name in full_names for part in name.removesuffix("()").split(".")}
    assert names
    missing = [
        n for n in names if not re.search(rf"\b(class|def) {n}\b|^\s*{n}\b.*=", code, re.MULTILINE)
    ]
    assert missing == []
