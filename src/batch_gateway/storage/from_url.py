"""Opening the store that an address names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final

from batch_gateway.errors import ConfigError, StorageError
from batch_gateway.extras import command_for
from batch_gateway.storage.folder import LocalFolder
from batch_gateway.storage.protocol import Storage
from batch_gateway.storage.s3_keys import find_s3_keys
from batch_gateway.storage.s3_places import S3Place
from batch_gateway.storage.store_address import StoreAddress

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Credential

    from batch_gateway.storage.object_store import Bucket

__all__ = ["connect", "open_bucket", "opened_storage", "place_of_store"]

# A store that says nothing for so long is tried again; a whole body may take longer.
_SILENT: Final = timedelta(seconds=30)
_WHOLE: Final = timedelta(minutes=10)
_PARTS_TRIED_FOR: Final = timedelta(seconds=100)
_KEYS_READ_EVERY: Final = timedelta(minutes=5)


def connect(
    address: StoreAddress,
    environment: Mapping[str, str] = os.environ,
    *,
    tries_again: bool = False,
) -> ObjectStore:
    """An obstore store for what is below `address`; nothing is asked of it yet.

    Without `tries_again` each request is made once. Raises ConfigError when obstore is missing, or
    the keys of the address are not to be had.
    """
    try:
        # Only who has object stores has it.
        from obstore import store  # noqa: PLC0415
        from obstore.exceptions import BaseError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "store",
            f"{address.scheme}:// needs obstore: install it with `{command_for('object-store')}`",
        ) from error
    options = _options(address, environment)
    endpoint = str(options.get("endpoint") or options.get("base_url") or "")
    classes: Any = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    try:
        return classes[address.scheme](
            address.bucket,
            prefix=address.prefix or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": _SILENT,
                "timeout": _WHOLE,
            },
            retry_config={
                "max_retries": 1000 if tries_again else 0,
                "retry_timeout": _PARTS_TRIED_FOR,
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
            **options,
        )
    except (ValueError, BaseError):
        # Which may show what it could not read.
        problem = "cannot be opened: look at what the environment says of its keys and its account"
        raise ConfigError("store", problem) from None


def place_of_store(address: StoreAddress | None, folder: Path) -> str:
    """What people call what `opened_storage` opens: a folder is one machine's."""
    return f"{folder.absolute()} of {gethostname()}" if address is None else str(address)


@contextlib.asynccontextmanager
async def opened_storage(
    address: StoreAddress | None, folder: Path
) -> AsyncGenerator[Storage, None]:
    """Where the files of a service are: at `address`, or without one in `folder`.

    `folder` is needed for what is read from an address too. Raises ConfigError as `connect` does,
    and StorageError when the store cannot be used, in words that say what would help.
    """
    storage = LocalFolder(folder / "files") if address is None else await _checked(address, folder)
    try:
        yield storage
    finally:
        await storage.aclose()


async def _checked(address: StoreAddress, folder: Path) -> Bucket:
    scratch = folder / "scratch"
    try:
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"{scratch}: {error.strerror}") from error
    bucket = open_bucket(address, scratch)
    try:
        await bucket.check()
    except StorageError as error:
        raise type(error)(f"{address} {error}") from error
    return bucket


def open_bucket(
    address: StoreAddress, scratch: Path, environment: Mapping[str, str] = os.environ
) -> Bucket:
    """The `Storage` that is below `address`; `scratch` is a folder for copies of what is read.

    Raises ConfigError as `connect` does.
    """
    stores = connect(address, environment), connect(address, environment, tries_again=True)
    # Only who has object stores has what they import.
    from batch_gateway.storage.object_store import Bucket  # noqa: PLC0415
    from batch_gateway.storage.unfinished_uploads import UnfinishedUploads  # noqa: PLC0415

    unfinished = None
    if address.scheme == "s3" and find_s3_keys(address, environment) is not None:
        place = S3Place.of(address, environment)
        unfinished = UnfinishedUploads(
            place, address.prefix, lambda: find_s3_keys(address, environment)
        )
    return Bucket(*stores, scratch, unfinished=unfinished)


def _options(address: StoreAddress, environment: Mapping[str, str]) -> dict[str, Any]:
    if address.scheme == "gs":
        return {"base_url": address.endpoint} if address.endpoint else {}
    if address.scheme == "az":
        given = {"account_name": address.account, "endpoint": address.endpoint}
        return {name: value for name, value in given.items() if value}
    place = S3Place.of(address, environment)
    options: dict[str, Any] = {
        "region": place.region,
        "endpoint": place.endpoint(address.bucket),
        "virtual_hosted_style_request": place.is_virtual,
    }
    if find_s3_keys(address, environment) is None:
        return options

    def keys() -> S3Credential:
        found = find_s3_keys(address, environment)
        if found is None:
            raise ConfigError("store", "the keys are gone")
        return {
            "access_key_id": found.access_key_id,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _KEYS_READ_EVERY,
        }

    return {**options, "credential_provider": keys}
