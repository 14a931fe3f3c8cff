"""The reference tells of every public name, and each has something to say."""

from __future__ import annotations

import importlib
import re
from collections import Counter

import pytest

from tests.documents.api_reference import PAGES, directives, members, reference
from tests.documents.docstrings import Words, is_own, public, said_of, words_of

PUBLIC = ("batch_gateway", "batch_gateway.engine", "batch_gateway.testing")
# Observers that are offered where they are, so that nobody else imports what they import.
OTHERS = {
    ("batch_gateway.metrics.prometheus", "PrometheusMetrics"),
    ("batch_gateway.metrics.opentelemetry", "OpenTelemetry"),
}
NAMES = [(module, name) for module, name, _ in directives()]


def test_every_public_name_has_its_place_and_no_other_has() -> None:
    names = {(one, name) for one in PUBLIC for name in importlib.import_module(one).__all__}
    assert Counter(NAMES) == Counter(names | OTHERS)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(one) for one in NAMES])
def test_every_public_name_and_method_has_a_docstring(module: str, name: str) -> None:
    value = public(module, name)
    assert words_of(module, name).text
    if isinstance(value, type):
        own = [one for one in value.__mro__ if is_own(one)]
        told = {name for one in own for name in Words.of_class(one).entries}
        silent = {name for name, _ in members(value) if not said_of(value, name)}
        assert silent - told == set()


def test_what_the_reference_links_to_is_in_it() -> None:
    found = {page.name: "" for page in PAGES}
    for module, name, page in directives():
        found[page] += reference(module, name)
    links = set(re.findall(r"\]\((\w+\.md)#([\w.]+)\)", "".join(found.values())))
    assert len(links) > 30
    assert [link for link in links if f"{{#{link[1]}" not in found[link[0]]] == []


def test_a_signature_and_what_is_said_of_each_argument_are_shown() -> None:
    shown = reference("batch_gateway", "RetryPolicy")
    assert "    max_retries: int = 3," in shown
    assert "| `max_retries` | " in shown
    shown = reference("batch_gateway", "BatchRun")
    assert "async start(progress: ShowProgress | None = None) -> RunSummary" in shown
    assert "### BatchRun.stop {#BatchRun.stop" in shown
