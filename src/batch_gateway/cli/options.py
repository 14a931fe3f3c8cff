"""Command line options: those of settings, and others under the same headings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batch_gateway.errors import ConfigError
from batch_gateway.settings.kinds import DURATION, PATH, pairs
from batch_gateway.settings.setting import Setting

__all__ = ["GroupedCommand", "duration_option", "option", "pairs_option", "setting_options"]

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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


class _Value(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]
    """The value of a setting."""

    name = "value"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        try:
            return self._setting.parse("", value)
        except ConfigError as error:
            self.fail(error.problem, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        # Loaded only where it is used.
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        is_path = self._setting.kind is PATH
        return [CompletionItem(incomplete, type="file")] if is_path else []


def setting_options(
    groups: Mapping[str, Iterable[Setting]], texts: Mapping[str, str] | None = None
) -> Callable[[F], F]:
    """The flags of settings, under headings; `texts` are help where theirs does not fit."""
    options = [
        _setting_option(group, setting, (texts or {}).get(setting.name, setting.help))
        for group, settings in groups.items()
        for setting in settings
        if setting.flag_name is not None
    ]

    def add(command: F) -> F:
        for one in reversed(options):
            command = one(command)
        return command

    return add


def _setting_option(group: str, setting: Setting, text: str) -> Callable[[F], F]:
    kind, names = setting.kind, (*filter(None, [setting.short, setting.flag_name]), setting.name)
    shown = [
        text,
        *(f"[{one}]" for one in (setting.default or setting.otherwise, kind.bounds) if one),
    ]
    more: dict[str, Any] = {"help": "  ".join(shown), "hidden": setting.is_hidden}
    if kind.several:
        more |= {"multiple": True, "callback": partial(_several, setting)}
    elif kind.metavar:
        more |= {"type": click.Choice(kind.choices) if kind.choices else _Value(setting)}
    else:
        more |= {"is_flag": True, "default": None}
    return option(group, *names, metavar=kind.metavar or None, **more)


def _several(
    setting: Setting, ctx: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> object | None:
    """A tuple or a mapping, None when nothing was given."""
    try:
        return setting.parse_all("", given) if given else None
    except ConfigError as error:
        raise click.BadParameter(error.problem, ctx, parameter) from error


def duration_option(group: str, *names: str, **more: Any) -> Callable[[F], F]:
    """An option whose value comes as seconds."""
    return option(
        group, *names, metavar=DURATION.metavar, type=_Value(Setting("", DURATION, "")), **more
    )


def pairs_option(group: str, *names: str, metavar: str, **more: Any) -> Callable[[F], F]:
    """A repeatable NAME=VALUE option; a mapping, or None when it was not given."""
    several = partial(_several, Setting("", pairs(metavar), ""))
    return option(group, *names, metavar=metavar, multiple=True, callback=several, **more)
