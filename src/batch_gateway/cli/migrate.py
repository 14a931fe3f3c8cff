"""`batch-gateway migrate`: the tables of a service, brought up to date before it is started."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.options import GroupedCommand, setting_options
from batch_gateway.cli.records_place import RECORDS_OPTIONS, database_url
from batch_gateway.cli.standard_streams import write_stderr
from batch_gateway.errors import RecordsError
from batch_gateway.settings.service_settings import resolve_records

__all__ = ["migrate"]


@click.command(cls=GroupedCommand, short_help="Bring the tables of a service up to date.")
@setting_options(RECORDS_OPTIONS)
def migrate(**flags: Any) -> int:
    """Bring the tables of the service that has --data or --database up to date, or make them.

    A service does so itself when it starts. This is for a deployment that wants it done before,
    and for a user of the database who may change tables where the service's own may not.
    """
    # Where the service is not installed, this says how it is.
    import_module("batch_gateway.server")
    from batch_gateway.service.migrate import NEWEST  # noqa: PLC0415
    from batch_gateway.service.open_database import open_database  # noqa: PLC0415

    records = resolve_records(flags, os.environ)
    place = database_url(records) or records.data / "records.sqlite3"

    async def act() -> None:
        await (await open_database(place)).aclose()

    try:
        run_async(act())
    except RecordsError as error:
        raise CommandFailure(str(error)) from error
    write_stderr(f"The tables are up to date ({NEWEST}).")
    return ExitCode.SUCCEEDED
