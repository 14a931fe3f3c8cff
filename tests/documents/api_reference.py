"""The reference of the library: `::: batch_gateway.NAME` becomes what NAME says of itself.

An extension of Python-Markdown, which `mkdocs.yml` names. All of it comes from signatures and
docstrings; a name in them that has a place in the reference leads there.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from tests.documents.blocks import ROOT
from tests.documents.docstrings import Words, alias, is_own, public, said_of, words_of

__all__ = ["PAGES", "directives", "makeExtension", "members", "reference"]

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
_DIRECTIVE = re.compile(r"^::: (batch_gateway[\w.]*)\.(\w+)$", re.MULTILINE)
_MENTION = re.compile(r"(?<!\[)`(\w+)(?:\.(\w+))?(\(\))?`")
_WIDTH = 88


class _Expanding(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        text = "\n".join(lines)
        if "\n::: " in text:
            text = _DIRECTIVE.sub(lambda found: reference(found[1], found[2]), text)
        return text.split("\n")


class _ApiReference(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        # Before blocks of code are taken out of the text, since it makes some.
        md.preprocessors.register(_Expanding(md), "api reference", 28)


def makeExtension(**settings: Any) -> Extension:
    return _ApiReference(**settings)


def directives() -> Iterator[tuple[str, str, str]]:
    """Module, name and page of all that the reference tells of."""
    for page in PAGES:
        for module, name in _DIRECTIVE.findall(page.read_text("utf-8")):
            yield module, name, page.name


def reference(module: str, name: str) -> str:
    """Markdown about one public name: heading, signature, words, attributes and methods."""
    value, words = public(module, name), words_of(module, name)
    if isinstance(value, type):
        parts = _class(value, name, words)
    elif isinstance(value, FunctionType):
        parts = _function(value, name, words)
    else:
        parts = iter([_code(f"{name} = {alias(module, name).stands_for}"), _linked(words.text)])
    return "\n\n".join([f"## {name} {{#{name}}}", *filter(None, parts)])


def _class(value: type, name: str, words: Words) -> Iterator[str]:
    if issubclass(value, enum.Enum):
        yield _linked(words.text)
        yield _table({one.name: f"`{one.value!r}`" for one in value}, words.entries)
        return
    bases = [one.__name__ for one in value.__bases__ if is_own(one)]
    is_exception = issubclass(value, Exception)
    signature = _signature_of(value)
    yield _code(_call(name, signature)) if signature else ""
    yield f"A kind of {', '.join(map(_link, bases))}." if is_exception and bases else ""
    yield _linked(words.text)
    # What all exceptions have is told once, of the first of them.
    told = [value] if is_exception else [one for one in reversed(value.__mro__) if is_own(one)]
    entries = {name: text for one in told for name, text in Words.of_class(one).entries.items()}
    yield _table({}, entries)
    for member, how in members(value):
        if member not in entries:
            yield f"### {name}.{member} {{#{name}.{member} data-toc-label={member}}}"
            yield from _member(member, how, Words.of(said_of(value, member)))


def members(value: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties of a class; of an exception those that its base has not."""
    seen = set[str]()
    for one in value.__mro__[:1] if issubclass(value, Exception) else value.__mro__:
        for name, member in one.__dict__.items() if is_own(one) else ():
            is_method = isinstance(member, FunctionType | property | classmethod | staticmethod)
            if is_method and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def _member(name: str, member: Any, words: Words) -> Iterator[str]:
    if isinstance(member, property):
        answer = inspect.signature(member.fget).return_annotation if member.fget else Any
        yield _code(f"{name}: {_annotation(answer)}")
        yield _linked(words.text)
    else:
        has_self = not isinstance(member, staticmethod)
        yield from _function(getattr(member, "__func__", member), name, words, skip=int(has_self))


def _function(value: Any, name: str, words: Words, *, skip: int = 0) -> Iterator[str]:
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())[skip:]
    call = _call(name, signature.replace(parameters=parameters))
    yield _code(f"async {call}" if inspect.iscoroutinefunction(value) else call)
    yield _linked(words.text)
    yield _table({}, words.entries)


def _signature_of(value: type) -> inspect.Signature | None:
    """None for what nobody makes: a protocol, and an exception that is made as its base is."""
    is_exception = issubclass(value, Exception)
    if getattr(value, "_is_protocol", False) or (is_exception and "__init__" not in vars(value)):
        return None
    return inspect.signature(value)


def _call(name: str, signature: inspect.Signature) -> str:
    """As it would be written, a parameter a line where one line does not hold all."""
    parts = list(_parameters(signature))
    nothing = (inspect.Signature.empty, None, "None")
    answer = signature.return_annotation
    tail = "" if answer in nothing else f" -> {_annotation(answer)}"
    line = f"{name}({', '.join(parts)}){tail}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){tail}"])


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    shown = [one for one in signature.parameters.values() if not one.name.startswith("_")]
    may_be_by_place = True
    for one in shown:
        if one.kind is one.KEYWORD_ONLY and may_be_by_place:
            yield "*"
        may_be_by_place = one.kind not in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        hint = "" if one.annotation is one.empty else f": {_annotation(one.annotation)}"
        equals = " = " if hint else "="
        default = "" if one.default is one.empty else f"{equals}{_default(one.default)}"
        yield f"{stars}{one.name}{hint}{default}"


def _annotation(value: Any) -> str:
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def _default(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{int(value) if float(value).is_integer() else value:_}"
    if value is None or isinstance(value, str | bytes | bool | tuple):
        return repr(value)
    return f"{type(value).__name__}()" if is_own(type(value)) else "…"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _table(values: Mapping[str, str], entries: Mapping[str, str]) -> str:
    rows = [*values] if values else [*entries]
    if not rows:
        return ""
    head = ["name", *(["value"] if values else []), *(["meaning"] if entries else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in rows:
        value = [values[name]] if values else []
        meaning = [_linked(entries.get(name, ""))] if entries else []
        cells = (cell.replace("|", "&#124;") for cell in (f"`{name}`", *value, *meaning))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _linked(text: str) -> str:
    """The text with a link for each name that the reference has."""
    return _MENTION.sub(lambda found: _link(found[1], found[2] or "", found[3] or ""), text)


def _link(name: str, member: str = "", call: str = "") -> str:
    written = f"`{name}{'.' if member else ''}{member}{call}`"
    for module, known, page in directives():
        if known == name:
            value = public(module, name)
            has_heading = isinstance(value, type) and member in dict(members(value))
            return f"[{written}]({page}#{name}{f'.{member}' if has_heading else ''})"
    return written
