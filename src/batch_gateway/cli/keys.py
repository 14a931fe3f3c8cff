"""`batch-gateway keys`: API keys for the tenants of a service, made, listed and revoked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.options import CommandGroup, GroupedCommand, option, setting_options
from batch_gateway.cli.records_place import RECORDS_OPTIONS, database_url
from batch_gateway.cli.standard_streams import write_json, write_stderr, write_stdout
from batch_gateway.cli.terminal_text import one_line, printable
from batch_gateway.cli.text_table import text_table, utc_time
from batch_gateway.errors import RecordsError
from batch_gateway.settings.service_settings import resolve_records

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["keys"]

T = TypeVar("T")

_LONGEST_TENANT = 256
_records = setting_options(RECORDS_OPTIONS)
_as_json = option("Display", "--json", "as_json", is_flag=True, help="Print JSON instead.")


@click.group(cls=CommandGroup, short_help="Make, list and revoke API keys of a service.")
def keys() -> None:
    """Make, list and revoke API keys of the service that has --data or --database.

    A service that is started with --api-keys answers only those who have one. It need not be
    stopped or started for any of this.
    """
    # Where the service is not installed, this says how it is.
    import_module("batch_gateway.server")


@keys.command(cls=GroupedCommand)
@option("Key", "--tenant", required=True, metavar="NAME", help="Whose key it is.")
@option("Key", "--label", default="", metavar="TEXT", help="What it is for, for the list.")
@_records
@_as_json
def create(tenant: str, label: str, as_json: bool, **records: Any) -> int:
    """Make a key for a tenant and print it: once, since only its digest is kept."""
    from batch_gateway.service.api_keys import create_api_key  # noqa: PLC0415

    name = tenant.strip()
    if not name or len(name) > _LONGEST_TENANT or not name.isprintable():
        raise CommandFailure(
            f"--tenant: must be a name of 1 to {_LONGEST_TENANT} characters that can be seen"
        )
    new = partial(create_api_key, tenant=name, label=label, now=time.time())
    key, secret = _with_records(records, new, make=True)
    if as_json:
        write_json({**msgspec.structs.asdict(key), "key": secret})
    else:
        write_stdout(secret)
        write_stderr(
            printable(
                f"This is the only time that {key.id} is shown; it is tenant {name}'s. Whoever has"
                f" it sends it as 'Authorization: Bearer KEY', which the openai package does.\n"
                f"To revoke it: batch-gateway keys revoke {key.id}"
            )
        )
    return ExitCode.SUCCEEDED


@keys.command("list", cls=GroupedCommand)
@_records
@_as_json
def list_keys(as_json: bool, **records: Any) -> int:
    """List all keys by tenant, those that were revoked too. The keys themselves are not known."""
    from batch_gateway.service.api_keys import list_api_keys  # noqa: PLC0415

    found = _with_records(records, list_api_keys)
    if as_json:
        write_json([msgspec.structs.asdict(key) for key in found])
        return ExitCode.SUCCEEDED
    if not found:
        write_stderr("There are no keys yet: batch-gateway keys create --tenant NAME")
        return ExitCode.SUCCEEDED
    rows = [
        (key.id, key.tenant, utc_time(key.created_at), utc_time(key.revoked_at) or "-", key.label)
        for key in found
    ]
    write_stdout(text_table(("ID", "TENANT", "CREATED", "REVOKED", "LABEL"), rows))
    return ExitCode.SUCCEEDED


@keys.command(cls=GroupedCommand)
@click.argument("key_id", metavar="ID")
@_records
def revoke(key_id: str, **records: Any) -> int:
    """Revoke the key that the list has under ID: from now on it opens nothing."""
    from batch_gateway.service.api_keys import revoke_api_key  # noqa: PLC0415

    if key_id.startswith("bgw_"):  # and it is not shown
        raise CommandFailure("that is a key itself: name it by its id, which keys list shows")
    revoked = partial(revoke_api_key, key_id=key_id, now=time.time())
    if not _with_records(records, revoked):
        raise CommandFailure(
            f"no key that is not revoked has the id {one_line(key_id)}: see batch-gateway keys list"
        )
    write_stderr(f"{one_line(key_id)} is revoked.")
    return ExitCode.SUCCEEDED


def _with_records(
    flags: Mapping[str, Any], action: Callable[[Connection], T], *, make: bool = False
) -> T:
    """What `action` gives back of a service's own records, which `make` makes if need be."""
    from batch_gateway.service.open_database import open_database  # noqa: PLC0415

    records = resolve_records(flags, os.environ)
    path = records.data / "records.sqlite3"
    if records.database is None and not make and not path.exists():
        raise CommandFailure(
            f"there is no service in {records.data}: name its folder with --data, as serve does,"
            " or its --database"
        )

    async def act() -> T:
        database = await open_database(database_url(records) or path)
        try:
            return await database.write(action)
        finally:
            await database.aclose()

    try:
        return run_async(act())
    except RecordsError as error:
        raise CommandFailure(str(error)) from error
