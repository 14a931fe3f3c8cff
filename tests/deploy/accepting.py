"""Whether the program takes the command line, variables and file that a manifest starts it with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

import click

from batch_gateway.cli.main import cli
from batch_gateway.settings.run_settings import read_config_file, resolve_settings
from batch_gateway.settings.service_settings import (
    ServiceSettings,
    resolve_records,
    resolve_service,
)
from batch_gateway.settings.variables import unknown_variables

__all__ = ["accepted_service", "accepts_migration", "context_of"]


def context_of(arguments: Sequence[str]) -> click.Context:
    """Raises click.ClickException for a command or a flag that there is not."""
    command = cli.get_command(click.Context(cli), arguments[0])
    assert command is not None, arguments[0]
    return command.make_context(arguments[0], list(arguments[1:]))


def accepted_service(
    arguments: Sequence[str], variables: Mapping[str, str], config: Path | None = None
) -> ServiceSettings:
    """What `serve` makes of it; `config` is read in the place of the file that is named.

    Raises ConfigError, and fails for whatever the program only warns of.
    """
    context = context_of(arguments)
    assert context.info_name == "serve"
    flags = {name: value for name, value in context.params.items() if name != "config"}
    assert (context.params["config"] is None) == (config is None)
    file = read_config_file(config, {}, "serve")
    service = resolve_service(flags, variables, file)
    # The keys of single gateways are looked up there.
    with mock.patch.dict(os.environ, variables):
        settings = resolve_settings(
            flags, variables, file, command="serve", needs_gateway=service.role != "api"
        )
    said = [*settings.warnings, *settings.notes, *unknown_variables(variables)]
    assert said == []
    return service


def accepts_migration(arguments: Sequence[str], variables: Mapping[str, str]) -> str | None:
    """The database that `migrate` would bring up to date."""
    flags = context_of(arguments).params
    assert not flags.pop("adopt_store")
    return resolve_records(flags, variables).database
