"""A pattern that is compiled late is like any other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.rare_pattern import rare_pattern


@given(st.text("aAb1 ", max_size=12))
def test_it_finds_what_a_compiled_one_finds(text: str) -> None:
    rare, usual = rare_pattern(r"(a+)b?", re.IGNORECASE), re.compile(r"(a+)b?", re.IGNORECASE)
    assert [m.span(1) for m in rare.finditer(text)] == [m.span(1) for m in usual.finditer(text)]
    assert rare.sub("-", text) == usual.sub("-", text)
    assert (rare.fullmatch(text) is None) == (usual.fullmatch(text) is None)
    assert (rare.pattern, rare.flags) == (usual.pattern, usual.flags)


def test_bytes_and_a_name_that_no_pattern_has() -> None:
    rare = rare_pattern(rb"x(.)")
    found = rare.search(b"axb")
    assert found is not None
    assert found[1] == b"b"
    with pytest.raises(AttributeError):
        rare.nothing  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
