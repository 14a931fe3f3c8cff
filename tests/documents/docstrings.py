"""What a public name says of itself: its docstring, apart into sentences and the parts below."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

__all__ = ["Alias", "Words", "alias", "is_own", "public", "said_of", "words_of"]

_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:[ ]+.*\n|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^(\w[\w, ]*): (.*(?:\n[ ]+.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Words:
    """A docstring: its sentences, and what it says of single arguments or attributes."""

    text: str
    entries: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, docstring: str) -> Words:
        docstring += "\n"
        entries = dict[str, str]()
        for section in _SECTION.finditer(docstring):
            for names, meaning in _ENTRY.findall(textwrap.dedent(section[1])):
                entries |= {name: " ".join(meaning.split()) for name in names.split(", ")}
        return cls(_SECTION.sub("", docstring).strip(), entries)

    @classmethod
    def of_class(cls, value: type) -> Words:
        """Of a class itself, not of one that it is made from."""
        return cls.of(inspect.cleandoc(value.__dict__.get("__doc__") or ""))


@dataclass(frozen=True)
class Alias:
    """A name for a type: what it stands for, and the text right below it."""

    stands_for: str
    text: str


def is_own(value: type) -> bool:
    return value.__module__.startswith("batch_gateway")


def public(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def words_of(module: str, name: str) -> Words:
    value = public(module, name)
    if isinstance(value, type):
        return Words.of_class(value)
    if isinstance(value, FunctionType):
        return Words.of(inspect.getdoc(value) or "")
    return Words.of(alias(module, name).text)


def said_of(value: type, member: str) -> str:
    """The docstring of a member, or that of the protocol beside its class that has it as well.

    What takes an event is told of by the class of the event.
    """
    beside = vars(importlib.import_module(value.__module__)).values()
    protocols = [one for one in beside if getattr(one, "_is_protocol", False)]
    for one in (value, *protocols):
        if words := inspect.getdoc(inspect.getattr_static(one, member, None)):
            return words
    event = getattr(getattr(value, member), "__annotations__", {}).get("event")
    return f"See `{event}`." if event else ""


@cache
def alias(module: str, name: str) -> Alias:
    """Looked up where `public.py` takes it from, since an alias does not know its own name."""
    for node in _body(f"{module}.public"):
        if isinstance(node, ast.ImportFrom) and name in {one.name for one in node.names}:
            body = [*_body(str(node.module))]
            for place, below in zip(body, [*body[1:], ast.Pass()], strict=True):
                if _target(place) == name and (value := getattr(place, "value", None)):
                    return Alias(ast.unparse(value), _text(below))
    raise LookupError(f"{module}.{name} is no class, no function and no alias")


def _body(module: str) -> Iterator[ast.stmt]:
    yield from ast.parse(inspect.getsource(importlib.import_module(module))).body


def _target(place: ast.stmt) -> str:
    match place:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case _:
            return ""


def _text(node: ast.stmt) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return inspect.cleandoc(text)
        case _:
            return ""
