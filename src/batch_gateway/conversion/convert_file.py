"""A file of lines in one form as a file in another: all of it, or an error for each line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from batch_gateway.conversion.fields import CannotSayError, Losses
from batch_gateway.conversion.forms import FORMS, Form, Wanted, converted, form_of
from batch_gateway.engine.source import Source, numbered_lines
from batch_gateway.engine.whole_file import replacing
from batch_gateway.errors import ConfigError, InputError
from batch_gateway.tables.columns import as_json_text

__all__ = ["Conversion", "convert_file"]

_MOST_PROBLEMS = 20


class Conversion(msgspec.Struct, frozen=True):
    """What a conversion came to.

    Attributes:
        lines: how many there are.
        source, target: the forms.
        dropped: how often each field was left out.
    """

    lines: int
    source: Form
    target: Form
    dropped: dict[str, int]


def convert_file(
    source: Source,
    path: Path,
    target: Form,
    *,
    form: Form | None = None,
    model: str | None = None,
    endpoint: str | None = None,
    max_tokens: int | None = None,
    drop: Collection[str] = (),
) -> Conversion:
    """Write the lines of `source` to `path` in the form `target`; `form` is found by the first.

    Raises InputError, with a problem for each of the first lines that the other form has no words
    for; nothing is written then. `drop` are fields that may be left out.
    """
    for name in (target, *filter(None, [form])):
        if name not in FORMS:
            raise ConfigError("form", f"{name!r:.80} is none of {', '.join(FORMS)}")
    lines = _Lines(source, target)
    losses = Losses(drop)
    wanted: Wanted | None = None
    with replacing(path) as stream:
        for number, line in lines:
            if wanted is None:
                wanted = Wanted(
                    source=form or form_of(line),
                    target=target,
                    model=model,
                    max_tokens=max_tokens,
                    **({} if endpoint is None else {"endpoint": endpoint}),
                )
            try:
                stream.write(as_json_text(converted(line, wanted, losses)).encode() + b"\n")
            except CannotSayError as error:
                lines.note(number, str(error))
            except (AttributeError, KeyError, TypeError):
                lines.note(number, f"has a field of another kind than {wanted.source}'s form has")
        lines.refuse()
    if wanted is None:
        raise InputError(f"{source.name} is empty")
    return Conversion(lines.count, wanted.source, target, dict(losses.counts))


class _Lines:
    """The lines of a file, decoded, and what is wrong with them."""

    def __init__(self, source: Source, target: Form) -> None:
        self.count = 0
        self._source, self._target = source, target
        self._problems: list[str] = []
        self._wrong = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, object]]]:
        for number, _, line in numbered_lines(self._source):
            if line.isspace():
                continue
            self.count += 1
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                self.note(number, f"is not JSON: {error}")
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                self.note(number, "is no JSON object")

    def note(self, number: int, problem: str) -> None:
        """Something is wrong with a line."""
        self._wrong += 1
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(f"line {number}: {problem}")

    def refuse(self) -> None:
        """Raises InputError if anything is wrong."""
        if self._wrong:
            raise InputError(
                f"{self._wrong:,} of {self.count:,} lines of {self._source.name} cannot be written"
                f" in the form of {self._target}; nothing was written",
                self._problems,
            )
