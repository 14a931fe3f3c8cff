"""`batch-gateway migrate`: the tables of a service, brought up to date before it is started."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.options import GroupedCommand, option, setting_options
from batch_gateway.cli.records_place import RECORDS_OPTIONS, database_url
from batch_gateway.cli.standard_streams import write_stderr
from batch_gateway.errors import RecordsError, StorageError
from batch_gateway.settings.service_settings import resolve_records, resolve_store
from batch_gateway.settings.table import SETTINGS

if TYPE_CHECKING:
    from batch_gateway.service.database import Database
    from batch_gateway.storage.store_address import StoreAddress

__all__ = ["migrate"]


@click.command(cls=GroupedCommand, short_help="Bring the tables of a service up to date.")
@setting_options({"Service": [*RECORDS_OPTIONS["Service"], SETTINGS["store"]]})
@option(
    "Service",
    "--adopt-store",
    is_flag=True,
    help="From now on its files are in --store, or in --data: after a move or a restore.",
)
def migrate(adopt_store: bool, **flags: Any) -> int:
    """Bring the tables of the service that has --data or --database up to date, or make them.

    A service does so itself when it starts. This is for a deployment that wants it done before,
    and for a user of the database who may change tables where the service's own may not.
    """
    # Where the service is not installed, this says how it is.
    import_module("batch_gateway.server")
    from batch_gateway.service.migrate import NEWEST  # noqa: PLC0415
    from batch_gateway.service.open_database import open_database  # noqa: PLC0415

    records, store = resolve_records(flags, os.environ), resolve_store(flags, os.environ)
    place = database_url(records) or records.data / "records.sqlite3"

    async def act() -> None:
        async with contextlib.aclosing(await open_database(place)) as database:
            if adopt_store:
                await _adopt(database, store, records.data)

    try:
        run_async(act())
    except (RecordsError, StorageError) as error:
        raise CommandFailure(str(error)) from error
    write_stderr(f"The tables are up to date ({NEWEST}).")
    return ExitCode.SUCCEEDED


async def _adopt(database: Database, address: StoreAddress | None, data: Path) -> None:
    from batch_gateway.service.one_store import adopt_store  # noqa: PLC0415
    from batch_gateway.storage.from_url import opened_storage, place_of_store  # noqa: PLC0415

    store = place_of_store(address, data)
    async with opened_storage(address, data) as storage:
        await adopt_store(database, storage, place=store)
    write_stderr(f"Its files are in {store}.")
