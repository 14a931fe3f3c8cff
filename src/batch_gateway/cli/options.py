"""Command line options of our own: under headings, durations, NAME=VALUE pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from batch_gateway.byte_size import parse_byte_size
from batch_gateway.cli.config_keys import AUTO
from batch_gateway.config_checks import require_count
from batch_gateway.durations import parse_duration
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.errors import ConfigError

__all__ = [
    "GroupedCommand",
    "concurrency_option",
    "duration_option",
    "failures_option",
    "option",
    "pairs_option",
    "repeatable_option",
    "size_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class _GroupedOption(click.Option):
    """An option that stands under a heading in the help."""

    def __init__(self, *arguments: Any, group: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings, in the order they were declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click would wrap it into one paragraph; ours are tables and examples.
        if self.epilog:
            formatter.write("\n" + self.epilog.strip("\n") + "\n")


def option(group: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """`click.option` under a heading."""
    return click.option(*names, cls=_GroupedOption, group=group, **settings)


def concurrency_option(group: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """An option whose value is a number from 1, or "auto"."""

    def number(ctx: click.Context, parameter: click.Parameter, given: str | None) -> Any:
        return given if given in (None, AUTO) else click.IntRange(min=1)(given, parameter, ctx)

    return option(group, *names, metavar="N|auto", callback=number, **settings)


def duration_option(group: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """An option whose value comes as seconds."""
    return option(group, *names, metavar="DURATION", callback=_duration, **settings)


def failures_option(group: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """An option whose value is a number of lines, or a share of them."""
    return option(group, *names, metavar="N|P%", callback=_failures, **settings)


def size_option(group: str, *names: str, minimum: int = 0, **settings: Any) -> Callable[[F], F]:
    """An option whose value comes as bytes, at least `minimum`."""

    def size(ctx: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
        if given is None:
            return None
        try:
            found = parse_byte_size(given)
            require_count("size", found, minimum=minimum)
        except ConfigError as error:
            raise click.BadParameter(error.problem, ctx, parameter) from error
        return found

    return option(group, *names, metavar="SIZE", callback=size, **settings)


def pairs_option(group: str, *names: str, metavar: str, **settings: Any) -> Callable[[F], F]:
    """A repeatable NAME=VALUE option; a mapping, or None when it was not given.

    Split at the first "=". The value, which may be a secret, is not quoted in errors.
    """

    def pairs(
        ctx: click.Context, parameter: click.Parameter, given: Sequence[str]
    ) -> dict[str, str] | None:
        result: dict[str, str] = {}
        for text in given:
            name, equals, value = text.partition("=")
            if not name or not equals:
                raise click.BadParameter(f"must be {metavar}", ctx, parameter)
            if name in result:
                raise click.BadParameter(f"{name} is given twice", ctx, parameter)
            result[name] = value
        return result or None

    return option(group, *names, metavar=metavar, multiple=True, callback=pairs, **settings)


def repeatable_option(group: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """An option that may be given more than once; a tuple, or None when it was not given."""

    def several(
        ctx: click.Context, parameter: click.Parameter, given: Sequence[str]
    ) -> tuple[str, ...] | None:
        return tuple(given) or None

    return option(group, *names, multiple=True, callback=several, **settings)


def _duration(ctx: click.Context, parameter: click.Parameter, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        return parse_duration(given)
    except ConfigError as error:
        raise click.BadParameter(error.problem, ctx, parameter) from error


def _failures(
    ctx: click.Context, parameter: click.Parameter, given: str | None
) -> FailureLimit | None:
    if given is None:
        return None
    try:
        return FailureLimit.parse(given)
    except ConfigError as error:
        raise click.BadParameter(error.problem, ctx, parameter) from error
