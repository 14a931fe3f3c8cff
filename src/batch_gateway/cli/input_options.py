"""The options that say what an input is and how its rows become requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from batch_gateway.cli.options import option, pairs_option
from batch_gateway.errors import ConfigError, InvalidRequestError
from batch_gateway.inputs.csv_rows import DELIMITERS
from batch_gateway.inputs.file_format import FORMATS
from batch_gateway.inputs.parameters import nested
from batch_gateway.inputs.prompt_template import Template
from batch_gateway.inputs.read_input import InputOptions
from batch_gateway.inputs.recipe import Recipe
from batch_gateway.inputs.text_lines import check_encoding
from batch_gateway.wire.endpoint import check_endpoint

__all__ = [
    "asked_of_input",
    "dry_run_options",
    "hosts_of",
    "in_flags",
    "input_options",
    "reading_options",
]

F = TypeVar("F", bound=Callable[..., Any])

_INPUT = "Input"
_COUNT = click.IntRange(min=1)
# By the name of what it gives a command.
_OPTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "template": option(_INPUT, "--template", metavar="TEXT|@FILE",
        help="The prompt, with columns in braces: 'Classify: {review}'."),
    "template_file": option(_INPUT, "--template-file", metavar="FILE",
        help="The same from a file."),
    "system": option(_INPUT, "--system", metavar="TEXT|@FILE",
        help="System message of chats without one."),
    "model": option(_INPUT, "--model", metavar="NAME", help="Of requests that name none."),
    "model_override": option(_INPUT, "--model-override", metavar="NAME", help="Of all requests."),
    "param": pairs_option(_INPUT, "--param", metavar="NAME=JSON",
        help="Of requests that do not have it: temperature=0; repeatable."),
    "id_column": option(_INPUT, "--id-column", metavar="NAME",
        help="Whose values are the custom_ids.  [custom_id, else request-1 and so on]"),
    "limit": option(_INPUT, "--limit", metavar="N", type=_COUNT, help="Only the first rows."),
    "sample": option(_INPUT, "--sample", metavar="N", type=_COUNT,
        help="Only so many rows, by chance."),
    "sample_seed": option(_INPUT, "--sample-seed", metavar="N", type=int, default=0,
        show_default=True, help="Another seed is another sample."),
    "input_format": option(_INPUT, "--input-format", type=click.Choice(FORMATS),
        help="What FILE is.  [by its content or name]"),
    "input_encoding": option(_INPUT, "--input-encoding", metavar="NAME",
        help="Of CSV, TSV and text.  [UTF-8, or by its mark]"),
    "delimiter": option(_INPUT, "--delimiter", metavar="CHARACTER",
        help="Of CSV, or comma, semicolon, tab, pipe, space.  [by the header]"),
    "allow_path": option(_INPUT, "--allow-path", metavar="PATH", multiple=True,
        help="Take this as an endpoint, too; repeatable."),
    "skip_bad_lines": option(_INPUT, "--skip-bad-lines", is_flag=True,
        help="Record them as failed, send the rest."),
}  # fmt: skip
_FLAGS = {"encoding": "--input-encoding", "format": "--input-format"}


def input_options(command: F) -> F:
    """The options under the heading Input; `asked_of_input` reads what was given."""
    for one in reversed(_OPTIONS.values()):
        command = one(command)
    return command


def dry_run_options(command: F) -> F:
    """The options with which a command shows requests and sends nothing."""
    price = pairs_option(_INPUT, "--price", metavar="KIND=NUMBER",
                         help="Of a million tokens: input=0.15,output=0.60.")  # fmt: skip
    show = option(_INPUT, "--dry-run", is_flag=True, help="Show three requests, and send nothing.")
    return show(price(command))


def reading_options(command: F) -> F:
    """Those of them that say how rows are read, and which requests they became."""
    for name in ("delimiter", "input_encoding", "input_format", "id_column"):
        command = _OPTIONS[name](command)
    return command


def asked_of_input(flags: dict[str, Any], endpoint: str | None = None) -> InputOptions:
    """What the options say, which are taken out of `flags`. Raises ConfigError, and InputError."""
    given = {name: flags.pop(name, None) for name in _OPTIONS}
    try:
        recipe = Recipe(
            model=given["model"],
            model_override=given["model_override"],
            system=_text_of("system", given["system"]),
            template=_template(given),
            params=nested(given["param"] or {}),
            endpoint=endpoint,
            id_column=given["id_column"],
        )
        encoding = given["input_encoding"]
        return InputOptions(
            recipe=recipe,
            format=given["input_format"],
            encoding=None if encoding is None else check_encoding(encoding),
            delimiter=_delimiter(given["delimiter"]),
            limit=given["limit"],
            sample=given["sample"],
            seed=given["sample_seed"] or 0,
            skip_bad_lines=bool(given["skip_bad_lines"]),
            paths=frozenset(map(_path, given["allow_path"] or ())),
        )
    except ConfigError as error:
        raise in_flags(error) from error


def in_flags(error: ConfigError) -> ConfigError:
    """The error with the option in place of what is called so in a program."""
    flag = _FLAGS.get(error.field, "--" + error.field.replace("_", "-"))
    return ConfigError(flag, error.problem)


def _template(given: Mapping[str, Any]) -> Template | None:
    text, file = given["template"], given["template_file"]
    if text is not None and file is not None:
        raise ConfigError("template", "is given, and --template-file, too; choose one")
    text = _text_of("template", text if file is None else f"@{file}")
    return None if text is None else Template.parse(text)


def _text_of(name: str, given: str | None) -> str | None:
    """A text, or that of a file without its last line break. Raises ConfigError."""
    if given is None or not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        return path.read_text("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError(name, f"@ names a file, and {path}: {reason}") from error


def _path(given: str) -> str:
    try:
        return check_endpoint(given)
    except InvalidRequestError as error:
        raise ConfigError("allow_path", error.message) from error


def _delimiter(given: str | None) -> str | None:
    if given is None or len(given) == 1:
        return given
    meant = {**DELIMITERS, "\\t": "\t"}.get(given.lower())
    if meant is None:
        words = ", ".join(DELIMITERS)
        raise ConfigError("delimiter", f"{given!r:.80} is neither a character nor one of {words}")
    return meant


def hosts_of(urls: Iterable[str]) -> frozenset[str]:
    """Those of gateways, with which the full URLs of lines may begin."""
    return frozenset(urlsplit(url).netloc.lower() for url in urls)
