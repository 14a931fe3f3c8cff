"""That all processes of a fleet have one store, and that it is their database's.

The store says of which database it is, and the database which store it has. Whoever starts compares
them before it takes any work: two stores under one database would lose each other's files, and of
two databases over one store each would clear the other's files away as nobody's.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, select, text, update

from batch_gateway.errors import ConfigError, NotStoredError
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import latest_stored, object_name
from batch_gateway.service.tables import fleets
from batch_gateway.storage.protocol import Storage

__all__ = ["IDENTITY", "adopt_store", "require_one_store"]

IDENTITY: Final = "identity"
"""The object that says so."""

_LOOK_UP: Final = select(fleets.c.id, fleets.c.store, fleets.c.place)
# SQLite and PostgreSQL say it alike, and SQLAlchemy has no word for both.
_NAME: Final = text("INSERT INTO fleets (number, id) VALUES (1, :id) ON CONFLICT DO NOTHING")
_LATEST: Final = 5
_CURE: Final = (
    "Give every process the same --database and the same --store, or a --data folder that all of"
    " them mount. If they belong together now, as after a move or a restore, say so once, while"
    " none of them runs: batch-gateway migrate --adopt-store"
)


class _Identity(msgspec.Struct, frozen=True):
    """What a store says of itself."""

    store: str
    database: str


class _Known(msgspec.Struct, frozen=True):
    """What a database says of itself; `store` and its `place` are None before it has one."""

    id: str
    store: str | None
    place: str | None


async def require_one_store(
    database: Database, storage: Storage, *, place: str, database_place: str
) -> None:
    """Return when they belong together; `place` and `database_place` are what people call them.

    Whoever comes first joins a database to its store. Raises ConfigError, StorageError and
    RecordsError.
    """
    # The database first: once it has a store, that has said so before.
    known = await database.read(_find) or await database.write(_known)
    found = await _identity(storage)
    if known.store is None and found is None:
        await _require_files(database, storage, place, database_place)
        found = await _identify(storage, known)
    if found is not None and found.database != known.id:
        problem = f"{place} has the files of another database than {database_place}. {_CURE}"
        raise ConfigError("store", problem)
    if found is not None and known.store is None:
        known = await database.write(partial(_join, store=found.store, place=place))
    if found is None or found.store != known.store or _is_copy(known, place):
        problem = f"the files of {database_place} are in {known.place}, and not in {place}. {_CURE}"
        raise ConfigError("store", problem)


async def adopt_store(database: Database, storage: Storage, *, place: str) -> None:
    """From now on the files of this database are there. Raises StorageError and RecordsError."""
    known = await database.write(_known)
    own = _Identity(secrets.token_hex(16), known.id)
    await storage.put(IDENTITY, msgspec.json.encode(own))
    await database.write(partial(_join, store=own.store, place=place, anew=True))


def _find(connection: Connection) -> _Known | None:
    row = connection.execute(_LOOK_UP).one_or_none()
    return None if row is None else _Known(*row)


def _known(connection: Connection) -> _Known:
    """With a name that it has from now on, if it had none."""
    connection.execute(_NAME, {"id": secrets.token_hex(16)})
    return _Known(*connection.execute(_LOOK_UP).one())


def _join(connection: Connection, store: str, place: str, *, anew: bool = False) -> _Known:
    """The first that comes, if not `anew`."""
    change = update(fleets) if anew else update(fleets).where(fleets.c.store.is_(None))
    connection.execute(change.values(store=store, place=place))
    return _known(connection)


async def _identity(storage: Storage) -> _Identity | None:
    try:
        return msgspec.json.decode(await storage.read(IDENTITY), type=_Identity)
    except NotStoredError:
        return None
    except msgspec.DecodeError:
        return _Identity("", "")


async def _identify(storage: Storage, known: _Known) -> _Identity | None:
    """What a store that was new says of itself, by whoever was the first to say it."""
    own = _Identity(secrets.token_hex(16), known.id)
    await storage.create(IDENTITY, msgspec.json.encode(own))
    return await _identity(storage)


async def _require_files(
    database: Database, storage: Storage, place: str, database_place: str
) -> None:
    """A database that has files from before it had an identity has them there."""
    names = [object_name(one) for one in await database.read(partial(latest_stored, most=_LATEST))]
    for name in names:
        try:
            await storage.size(name)
        except NotStoredError:
            continue
        return
    if names:
        problem = f"the latest files of {database_place} are not in {place}. {_CURE}"
        raise ConfigError("store", problem)


def _is_copy(known: _Known, place: str) -> bool:
    """Of a bucket. A folder may have another name on each machine."""
    places = {known.place, place}
    return len(places) > 1 and any(one is not None and "://" in one for one in places)
