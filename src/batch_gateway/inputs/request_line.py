"""From a row to the line of a batch file, or what is wrong with it: pure, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from batch_gateway.engine.validate import faulty_line
from batch_gateway.errors import InvalidRequestError
from batch_gateway.inputs.data_row import BadRow, Row
from batch_gateway.inputs.endpoint_spelling import same_endpoint
from batch_gateway.inputs.file_format import is_of_batch
from batch_gateway.inputs.parameters import REQUEST_PARAMETERS, with_defaults
from batch_gateway.inputs.prompt_template import as_text
from batch_gateway.inputs.recipe import Recipe
from batch_gateway.inputs.row_fault import FaultyRowError
from batch_gateway.wire.endpoint import (
    CHAT,
    COMPLETIONS,
    RESPONSES,
    determine_endpoint,
)

__all__ = ["RequestLines", "custom_id_of"]

_CUSTOM_ID: Final = "custom_id"
_PROMPTS: Final = ("messages", "prompt", "input")
# What a row by itself says of its request; all else is data.
_READ: Final = frozenset({*_PROMPTS, _CUSTOM_ID, "model", "system"})
_MOST_UNSENT: Final = 20
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[Any]).decode
_encode = msgspec.json.encode


class _Role(msgspec.Struct):
    role: str = ""


_decode_roles = msgspec.json.Decoder(list[_Role]).decode


def custom_id_of(row: Row, id_column: str | None) -> str:
    """The custom_id of a row's request. Raises FaultyRowError where its column has none."""
    column = id_column or (_CUSTOM_ID if _CUSTOM_ID in row.values else None)
    if column is None:
        return _numbered(row)
    if column not in row.values:
        raise FaultyRowError(f"has no column {column!r:.80}, which the custom_id is to come from")
    found = as_text(row.values[column], column)
    if not found:
        raise FaultyRowError(f"has nothing in the column {column!r:.80}, its custom_id")
    return found


def _numbered(row: Row | BadRow) -> str:
    return f"request-{row.number}"


class RequestLines:
    """Makes lines by a recipe.

    Attributes:
        notes: what was written otherwise and taken all the same, and how often.
        changed: some line is not what stands in the source.
        unsent: columns that are no part of any request.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        typed: bool,
        hosts: Collection[str] = (),
        paths: Collection[str] = (),
    ) -> None:
        """`typed` rows have more than text in their columns, so that parameters may be among them.

        `hosts` and `paths` see `same_endpoint`.
        """
        self.notes: Counter[str] = Counter()
        self.changed = False
        self.unsent: dict[str, None] = {}
        self._have_names = recipe.id_column is not None
        self._recipe = recipe
        self._typed = typed
        self._hosts, self._paths = hosts, paths

    def line(self, row: Row | BadRow) -> bytes:
        """The line of a row, without its break; for a faulty one, one that says so."""
        if isinstance(row, BadRow):
            # A number could be what another row is called.
            name = "" if self._have_names else _numbered(row)
            return faulty_line(name, [fault.text for fault in row.faults])
        self._have_names = self._recipe.id_column is not None or _CUSTOM_ID in row.values
        try:
            if self._is_of_a_batch(row):
                return self._batch_line(row)
            self.changed = True
            url, body = self._request(row)
            return self._encoded(custom_id_of(row, self._recipe.id_column), url, body)
        except FaultyRowError as error:
            return faulty_line(self._name_of(row), [str(error)])

    def _name_of(self, row: Row) -> str:
        try:
            return custom_id_of(row, self._recipe.id_column)
        except FaultyRowError:
            return ""

    def _is_of_a_batch(self, row: Row) -> bool:
        """Whether it is a line of a batch file, or one that is faulty in other words than ours."""
        fields = row.values.keys()
        if not row.text:
            return False
        if self._recipe.template is not None:
            return "method" in fields and isinstance(row.values.get("body"), dict)
        has_prompt = "body" not in fields and not fields.isdisjoint(_PROMPTS)
        return not has_prompt and is_of_batch(fields)

    def _encoded(self, custom_id: str, url: str, body: Mapping[str, Any]) -> bytes:
        try:
            return _encode({_CUSTOM_ID: custom_id, "method": "POST", "url": url, "body": body})
        except UnicodeEncodeError as error:
            raise FaultyRowError("holds half of a surrogate pair, which is no character") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise FaultyRowError(f"holds what cannot be written as JSON: {error}") from error

    # --- a row of data ---

    def _request(self, row: Row) -> tuple[str, dict[str, Any]]:
        """The endpoint and the body."""
        recipe = self._recipe
        if recipe.template is not None:
            prompt = recipe.template.render(row.values)
            url = recipe.endpoint or CHAT
            body: dict[str, Any] = {}
            self._put_prompt(body, url, prompt, recipe.system)
        else:
            values: Mapping[str, Any] = _decode_object(row.text) if row.text else row.values
            url, body = self._by_columns(row, values)
            if self._typed:
                body |= {
                    name: value
                    for name, value in values.items()
                    if name in REQUEST_PARAMETERS and row.values[name] is not None
                }
            self._note_unsent(values, body)
        with_defaults(body, recipe.params)
        return url, {"model": self._model(row), **body}

    def _note_unsent(self, values: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        for name in values.keys() - body.keys() - _READ - {self._recipe.id_column}:
            if len(self.unsent) < _MOST_UNSENT:
                self.unsent[name] = None

    def _model(self, row: Row) -> str:
        recipe = self._recipe
        own = row.values.get("model")
        named = own if isinstance(own, str) and own else None
        # With a template columns are data, and there are models of cars.
        ranked = (recipe.model, named) if recipe.template is not None else (named, recipe.model)
        model = recipe.model_override or ranked[0] or ranked[1]
        if model is None:
            raise FaultyRowError("names no model: give one for all rows (--model)")
        return model

    def _by_columns(self, row: Row, raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The endpoint and what is asked, by the columns that say it."""
        values, recipe = row.values, self._recipe
        given = [name for name in _PROMPTS if values.get(name) not in (None, "")]
        if len(given) != 1:
            raise self._no_prompt(values, given)
        (name,) = given
        if name == "messages":
            return self._chat(row, raw[name])
        if name == "input" and self._typed:
            return self._input(values, raw[name])
        url = recipe.endpoint or (CHAT if name == "prompt" else None)
        if url is None:
            raise FaultyRowError("has an input, and nothing says what for: give --endpoint")
        body: dict[str, Any] = {}
        if isinstance(values[name], str):
            system = values.get("system")
            own = system if isinstance(system, str) and system else None
            self._put_prompt(body, url, values[name], own or recipe.system)
        elif url == COMPLETIONS:
            body["prompt"] = raw[name]
        else:
            raise FaultyRowError(f"has a {name} that is not text")
        return url, body

    def _no_prompt(self, values: Mapping[str, Any], given: list[str]) -> FaultyRowError:
        if given:
            return FaultyRowError(f"has {' and '.join(given)}, and is to have one of them")
        empty = [name for name in _PROMPTS if name in values]
        if empty:
            return FaultyRowError(f"has nothing in {' and '.join(empty)}")
        if not values:
            return FaultyRowError("has no columns")
        columns = ", ".join(list(values)[:20])
        return FaultyRowError(
            "has no column prompt or messages, and no --template says what to ask; it has"
            f" {columns}: give such as --template 'Rate this: {{{list(values)[-1]}}}'"
        )

    def _chat(self, row: Row, messages: Any) -> tuple[str, dict[str, Any]]:
        url = self._recipe.endpoint or CHAT
        if url not in (CHAT, RESPONSES):
            raise FaultyRowError(f"has messages, which {url} does not take")
        if isinstance(messages, str):
            messages = _messages_of(messages)
        elif not isinstance(row.values["messages"], list):
            raise FaultyRowError("has messages that are not a list")
        body: dict[str, Any] = {"messages" if url == CHAT else "input": messages}
        if self._recipe.system is not None:
            self._put_system(body, url, self._recipe.system)
        return url, body

    def _input(self, values: Mapping[str, Any], asked: Any) -> tuple[str, dict[str, Any]]:
        try:
            url = self._recipe.endpoint or determine_endpoint(values)
        except InvalidRequestError as error:
            raise FaultyRowError(f"{error.message}; give --endpoint") from error
        body = {"input": asked}
        if self._recipe.system is not None:
            self._put_system(body, url, self._recipe.system)
        return url, body

    def _put_prompt(self, body: dict[str, Any], url: str, text: str, system: str | None) -> None:
        if not text.strip():
            raise FaultyRowError("makes an empty prompt")
        if url == CHAT:
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt" if url == COMPLETIONS else "input"] = text
        if system is not None:
            self._put_system(body, url, system)

    def _put_system(self, body: dict[str, Any], url: str, system: str) -> bool:
        """Says `system` where nothing else is said in its place; whether it does."""
        if url == RESPONSES:
            return with_defaults(body, {"instructions": system})
        if url != CHAT:
            raise FaultyRowError(f"is for {url}, which has no system message")
        messages = body.get("messages", [])
        raw = messages if isinstance(messages, bytes | msgspec.Raw) else _encode(messages)
        try:
            roles = _decode_roles(raw)
        except msgspec.DecodeError:
            return False  # the gateway's to judge
        if any(one.role in ("system", "developer") for one in roles):
            return False
        body["messages"] = [{"role": "system", "content": system}, *_decode_raws(raw)]
        return True

    # --- a line of a batch ---

    def _batch_line(self, row: Row) -> bytes:
        """The line as it is, but for what it lacks or spells otherwise."""
        recipe = self._recipe
        if recipe.template is not None:
            raise FaultyRowError("is a request already, and the template is for rows of data")
        fields = _decode_object(row.text)
        url, changed = self._spelled(fields, row.values)
        if "body" in fields and (recipe.id_column is not None or _CUSTOM_ID not in fields):
            fields[_CUSTOM_ID] = msgspec.Raw(_encode(custom_id_of(row, recipe.id_column)))
            changed = True
        if isinstance(row.values.get("body"), dict):
            body: dict[str, Any] = dict(_decode_object(fields["body"]))
            if self._completed(body, row.values["body"], url):
                fields["body"] = msgspec.Raw(_encode(body))
                changed = True
        self.changed = self.changed or changed
        return _encode(fields) if changed else row.text.strip()

    def _spelled(
        self, fields: dict[str, msgspec.Raw], values: Mapping[str, Any]
    ) -> tuple[str, bool]:
        """Mends the method and the url; the url that is meant, and whether anything was mended."""
        method, url = values.get("method"), values.get("url")
        changed = False
        if isinstance(method, str) and method != "POST" and method.strip().upper() == "POST":
            fields["method"] = msgspec.Raw(b'"POST"')
            self.notes[f'method "{method:.20}" is taken as "POST"'] += 1
            changed = True
        meant = same_endpoint(url, self._hosts, self._paths) if isinstance(url, str) else None
        if meant is not None and meant != url:
            fields["url"] = msgspec.Raw(_encode(meant))
            self.notes[f"url {url:.100} is taken as {meant}"] += 1
            changed = True
        return meant or (url if isinstance(url, str) else CHAT), changed

    def _completed(self, body: dict[str, Any], given: Mapping[str, Any], url: str) -> bool:
        """Puts into a body what it lacks; whether there was anything. `given` is it decoded."""
        recipe = self._recipe
        own = given.get("model")
        changed = False
        model = recipe.model_override or (recipe.model if own in (None, "") else None)
        if model is not None and model != own:
            body["model"] = model
            changed = True
        if recipe.system is not None and self._put_system(body, url, recipe.system):
            changed = True
        return with_defaults(body, recipe.params) or changed


_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _messages_of(text: str) -> list[Any]:
    """Messages that stand as JSON in a column of text."""
    try:
        return _decode_list(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise FaultyRowError("has messages that are not a JSON list") from error
