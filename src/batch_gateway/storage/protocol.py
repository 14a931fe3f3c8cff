"""What every store of files can do: whole objects under names, written once and never half.

A name is one or more parts between slashes, such as `files/file_1` or `batches/b/0/1/17`. An object
is there with all of its bytes or not at all, whatever crashes; once it is there it does not change,
though `put` may replace it as a whole.
"""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

from batch_gateway.errors import StorageError

__all__ = ["Storage", "StoredObject", "Upload", "check_name"]

READ_BYTES: Final = 256 * 1024
"""About what the pieces of a stream are."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a full device says."""

LONGEST_NAME: Final = 512
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199})*")


class StoredObject(NamedTuple):
    """One object of a listing; `size` in bytes."""

    name: str
    size: int


class Upload(Protocol):
    """An object that is being written part by part; nobody sees any of it before `commit`."""

    async def append(self, data: bytes) -> None:
        """Add the next bytes. Raises StorageError, StorageFullError."""
        ...

    async def commit(self) -> None:
        """Make the object durable and visible, as a whole. Raises as `append` does."""
        ...


class Storage(Protocol):
    """A place for objects. Every method raises StorageError when the place fails or what it is
    given is no name (see `check_name`), and nothing is half done then."""

    async def put(self, name: str, data: bytes) -> None:
        """Store `data`, durable when this returns; takes the place of what had that name."""
        ...

    async def create(self, name: str, data: bytes) -> bool:
        """Store `data` unless the name is taken: False then, and what is there stays."""
        ...

    def upload(self, name: str) -> AbstractAsyncContextManager[Upload]:
        """Write an object of any size. Leaving the block without `commit` leaves nothing."""
        ...

    async def list(self, prefix: str) -> list[StoredObject]:
        """All objects below `prefix`, which ends at a slash of theirs, sorted by name."""
        ...

    async def folders(self, prefix: str) -> list[str]:
        """The next parts of the names below `prefix` that have more after them, each once, sorted.

        Their number is what this costs, not that of the objects.
        """
        ...

    async def size(self, name: str) -> int:
        """How many bytes it has. Raises NotStoredError."""
        ...

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` to `end`; fewer when it ends before. Raises NotStoredError."""
        ...

    def stream(
        self, name: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The same in pieces of a few hundred kilobytes, read while they are taken.

        An object that is deleted meanwhile is still read to its end, or raises StorageError; it
        never ends early without.
        """
        ...

    async def delete(self, *names: str) -> None:
        """Remove objects, for good when this returns; those that are not there are as good."""
        ...

    async def open_local(self, name: str, start: int = 0, end: int | None = None) -> int:
        """A descriptor of a file of this machine in which the bytes from `start` to `end` stand at
        their places. It is only to be read, and to be closed. Raises NotStoredError."""
        ...

    async def clear(self) -> None:
        """Remove what writers that are no more have left unfinished."""
        ...

    async def aclose(self) -> None:
        """Give back threads and connections."""
        ...


def check_name(name: str) -> str:
    """`name` itself. Raises StorageError for one that could mean anything but a place of its own:
    empty parts, parts that begin with a dot, and what is not of `A-Za-z0-9_.-`."""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise StorageError(f"{name!r:.80} cannot be the name of a stored object")
    return name
