"""Command line options: those of settings, and others under the same headings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batch_gateway.errors import ConfigError
from batch_gateway.settings.kinds import DURATION, PATH, pairs
from batch_gateway.settings.setting import Setting

__all__ = [
    "CommandGroup",
    "GroupedCommand",
    "duration_option",
    "option",
    "pairs_option",
    "setting_options",
]

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_OTHER = "Other"
_ALL = "batch_gateway.help_all"

F = TypeVar("F", bound=Callable[..., Any])


class _GroupedOption(click.Option):
    """An option that stands under a heading in the help."""

    def __init__(self, *arguments: Any, group: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.group = group


class _Suggesting(click.Command):
    """Names the option that somebody may have meant by one that is none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            names = [name for one in self.get_params(ctx) for name in _shown_names(one)]
            raise _no_such("option", error.option_name, names, ctx) from error


class GroupedCommand(_Suggesting):
    """A command whose help lists its options under headings, in the order they were declared.

    Attributes:
        first: the options that its help shows where it has many; `--help-all` shows the others.
        more: what stands below its epilog if all are shown.
    """

    def __init__(
        self, *arguments: Any, first: Sequence[str] = (), more: str = "", **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.first, self.more = first, more

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        found = super().get_params(ctx)
        return [*found, _help_all()] if self.first else found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = self._records(ctx)
        few = [] if ctx.meta.get(_ALL) else [*self.first, "--help", "--help-all"]
        if self.first and few:
            by_name = {name: one for group in groups.values() for name, one in group.items()}
            with formatter.section("Most used"):
                formatter.write_dl([by_name[name] for name in few])
            headings = ", ".join(heading for heading in groups if heading != _OTHER)
            formatter.write_paragraph()
            formatter.write_text(f"--help-all shows more under: {headings}.")
            return
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(list(records.values()))

    def _records(self, ctx: click.Context) -> dict[str, dict[str, tuple[str, str]]]:
        """What help says of each option, by heading and long name."""
        groups: dict[str, dict[str, tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                name = max(parameter.opts, key=len)
                groups.setdefault(getattr(parameter, "group", _OTHER), {})[name] = record
        return groups

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click would wrap it into one paragraph; ours are tables and examples.
        for text in (self.epilog, self.more if ctx.meta.get(_ALL) else ""):
            if text:
                formatter.write("\n" + text.strip("\n") + "\n")


class CommandGroup(_Suggesting, click.Group):
    """Commands that name the one that somebody may have meant; `help` shows theirs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise _no_such("command", name, self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)


def _no_such(
    kind: str, name: str, known: Iterable[str], ctx: click.Context | None
) -> click.UsageError:
    """The error for an option or a command that is none, with those that may have been meant."""
    # Only who is mistaken pays for loading it.
    from batch_gateway.settings.nearest import near_names  # noqa: PLC0415

    near = " or ".join(map(repr, near_names(name, known)))
    hint = f" Did you mean {near}?" if near else ""
    return click.UsageError(f"No such {kind} {name!r}.{hint}", ctx)


def _shown_names(parameter: click.Parameter) -> Sequence[str]:
    is_shown = isinstance(parameter, click.Option) and not parameter.hidden
    return (*parameter.opts, *parameter.secondary_opts) if is_shown else ()


def _help_all() -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta[_ALL] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()

    return click.Option(
        ["--help-all"], is_flag=True, is_eager=True, expose_value=False, callback=show,
        help="Show every option and exit.",
    )  # fmt: skip


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
