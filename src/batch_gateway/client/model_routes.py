"""Which of several things is a model's: by its name, or by a pattern of names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Generic, TypeVar

__all__ = ["ModelRoutes", "is_pattern"]

T = TypeVar("T")


def is_pattern(name: str) -> bool:
    """Whether it stands for more models than the one of this name."""
    return "*" in name


class ModelRoutes(Generic[T]):
    """Finds what belongs to a model among names and patterns, in which `*` is any text.

    A model's own name comes first, then the pattern that spells out most of it; of two that spell
    out as much, the one that was given first.
    """

    def __init__(self, routes: Mapping[str, T]) -> None:
        self._named = dict(routes)
        patterns = [name for name in routes if is_pattern(name)]
        patterns.sort(key=lambda name: name.count("*") - len(name))
        self._patterns = [(_compiled(name), routes[name]) for name in patterns]

    def of(self, model: str) -> T | None:
        """None when nothing is said of this model."""
        found = self._named.get(model)
        if found is not None:
            return found
        return next((route for pattern, route in self._patterns if pattern.match(model)), None)


def _compiled(pattern: str) -> re.Pattern[str]:
    # Of the marks that shells know, names of models have every other for themselves.
    literal = pattern.translate({ord("["): "[[]", ord("?"): "[?]"})
    return re.compile(translate(literal))
