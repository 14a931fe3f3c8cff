"""A folder and a bucket in memory, which do the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from batch_gateway.storage.folder import LocalFolder
from batch_gateway.storage.object_store import Bucket
from batch_gateway.storage.protocol import Storage
from tests.obstore_threads import OBSTORE_RUNS
from tests.storage.store_behaviour import StoreBehaviour, store_operations

assert OBSTORE_RUNS

NAMES = st.sampled_from(["a", "a-b", "b/1", "b/2", "b/10", "b/c/1", "b.c/1"])
OPERATIONS = st.tuples(
    st.sampled_from(
        ["put", "create", "delete", "upload", "give up", "list", "folders", "read", "read"]
    ),
    NAMES,
    st.binary(max_size=3),
)


def bucket_in_memory(scratch: Path) -> Bucket:
    store = MemoryStore()
    return Bucket(store, store, scratch)


class TestFolder(StoreBehaviour):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Storage]:
        store = LocalFolder(tmp_path)
        yield store
        await store.aclose()


class TestBucketInMemory(StoreBehaviour):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Storage]:
        store = bucket_in_memory(tmp_path)
        yield store
        await store.aclose()


# A folder has no place for "b" beside "b/1": the service has no such names.
@settings(max_examples=40, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_a_bucket_answers_whatever_comes_as_a_folder_does(
    operations: list[tuple[str, str, bytes]],
) -> None:
    async def both(top: Path) -> None:
        folder = LocalFolder(top)
        expected = await store_operations(folder, operations)
        await folder.aclose()
        assert await store_operations(bucket_in_memory(top), operations) == expected

    with TemporaryDirectory() as top:
        asyncio.run(both(Path(top)))
