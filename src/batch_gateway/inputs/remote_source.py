"""Inputs that are elsewhere: https:// as it is, s3://, gs:// and az:// by obstore, kept on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from batch_gateway.engine.source import FileSource
from batch_gateway.errors import InputError

__all__ = ["is_remote", "open_remote", "shown_url"]

_WEB: Final = ("http", "https")
_STORES: Final = ("s3", "gs", "az")
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_CHUNK_BYTES: Final = 1024 * 1024
_SECONDS: Final = 60
_TRIES: Final = 4
_KNOWN: Final = ", ".join(f"{scheme}://" for scheme in ("https", *_STORES))


def is_remote(location: str) -> bool:
    """Whether it is a URL and no path."""
    return _SCHEME.match(location) is not None


def shown_url(location: str) -> str:
    """It without what may be secret: a user, a password, a signature in its query."""
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def open_remote(location: str) -> FileSource:
    """All of it, in a temporary file. Raises InputError, which shows no secret of the URL."""
    name = shown_url(location)
    scheme = urlsplit(location).scheme.lower()
    if scheme in _WEB:
        return FileSource.keep(_from_web(location, name), name)
    if scheme in _STORES:
        return FileSource.keep(_from_store(location, name), name)
    raise InputError(f"{name}: {scheme}:// is not read; {_KNOWN} and files are")


def _from_web(location: str, name: str) -> Iterator[bytes]:
    """What a server sends. It goes on where it broke off, if it is still the same."""
    # Loaded by nobody who reads files.
    from urllib.error import HTTPError, URLError  # noqa: PLC0415
    from urllib.request import Request, urlopen  # noqa: PLC0415

    done, tag = 0, ""
    for left in reversed(range(_TRIES)):
        try:
            asked = Request(location, headers=_from(done, tag))  # noqa: S310 - it is one of _WEB
            with urlopen(asked, timeout=_SECONDS) as answer:  # noqa: S310
                goes_on = answer.status == 206
                if done and not goes_on:
                    raise InputError(f"{name} broke off, and its server cannot go on from there")
                tag = tag or answer.headers.get("ETag", "")
                expected = answer.length
                while chunk := answer.read(_CHUNK_BYTES):
                    done += len(chunk)
                    expected = None if expected is None else expected - len(chunk)
                    yield chunk
            if not expected:
                return
            reason = "it broke off"
        except HTTPError as error:
            error.close()
            raise InputError(f"{name}: the server says {error.code} {error.reason}") from None
        except (URLError, OSError) as error:
            # Neither with its URL, which may be signed.
            reason = str(getattr(error, "reason", None) or error)
        if not left:
            raise InputError(f"{name} cannot be read: {reason}")


def _from(done: int, tag: str) -> dict[str, str]:
    """The headers that ask for what comes behind so many bytes."""
    if not done:
        return {}
    return {"Range": f"bytes={done}-"} | ({"If-Range": tag} if tag else {})


def _from_store(location: str, name: str) -> Iterator[bytes]:
    """What an object holds, by its address; it goes on where it broke off."""
    # Only who has object stores has what they import.
    from batch_gateway.storage.from_url import connect  # noqa: PLC0415
    from batch_gateway.storage.store_address import StoreAddress  # noqa: PLC0415

    address = StoreAddress.parse(location, "input")
    folder, _, key = address.prefix.rpartition("/")
    if not key:
        raise InputError(f"{name} names a bucket and no object in it")
    store = connect(msgspec.structs.replace(address, prefix=folder), tries_again=True)
    obstore: Any = import_module("obstore")
    troubles = import_module("batch_gateway.storage.store_troubles")
    failures = import_module("obstore.exceptions").BaseError
    done, tag = 0, None
    for left in reversed(range(_TRIES)):
        options = {"range": {"offset": done}, "if_match": tag} if done else {}
        try:
            found = obstore.get(store, key, options=options)
            tag = found.meta["e_tag"]
            for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                done += len(chunk)
                yield bytes(chunk)
        except (failures, OSError) as error:
            trouble = troubles.trouble_of(error)
            if not left or not trouble.may_pass:
                raise InputError(f"{name} cannot be read: {trouble.words}") from None
        else:
            return
