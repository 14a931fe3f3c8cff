"""The service's store on S3 servers that nobody here wrote, and through a network that errs."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.errors import NotStoredError, StorageError, StorageUnavailableError
from batch_gateway.storage.from_url import connect, open_bucket
from batch_gateway.storage.object_store import Bucket
from batch_gateway.storage.object_upload import PART_BYTES, ObjectUpload
from batch_gateway.storage.outage_log import OutageLog
from batch_gateway.storage.protocol import READ_BYTES, Storage
from batch_gateway.storage.store_address import StoreAddress
from batch_gateway.storage.unfinished_uploads import UnfinishedUploads
from tests.peers.faulty_proxy import FaultyProxy, Rule, answer, faulty_proxy
from tests.peers.object_stores import (
    BUCKET,
    S3_KEYS,
    S3Server,
    Seaweed,
    running_moto,
    running_seaweed,
)
from tests.storage.store_behaviour import StoreBehaviour, store_operations
from tests.storage.test_store_kinds import OPERATIONS, bucket_in_memory

pytestmark = [pytest.mark.anyio, pytest.mark.serves_a_module]

OUTAGE = OutageLog("the store", logging.getLogger("batch_gateway.test"))
SLOW_DOWN = answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>")
NOT_ALLOWED = answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>")


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


def prefix() -> str:
    """One of its own for each test, with what people put into such names."""
    return f"odd prefix/ü+%20!'()/{secrets.token_hex(8)}"


@pytest.mark.peer("seaweedfs")
class TestSeaweedFS(StoreBehaviour):
    @pytest.fixture
    async def store(self, seaweed: Seaweed, tmp_path: Path) -> AsyncIterator[Storage]:
        store = seaweed.bucket(prefix(), tmp_path)
        yield store
        await store.aclose()


@pytest.mark.peer("moto")
class TestMoto(StoreBehaviour):
    @pytest.fixture
    async def store(self, moto: S3Server, tmp_path: Path) -> AsyncIterator[Storage]:
        store = moto.bucket(prefix(), tmp_path)
        yield store
        await store.aclose()


@pytest.mark.peer("seaweedfs")
@settings(max_examples=8, deadline=None)
@given(st.lists(OPERATIONS, max_size=15))
def test_a_server_answers_whatever_comes_as_a_bucket_in_memory_does(
    seaweed: Seaweed, operations: list[tuple[str, str, bytes]]
) -> None:
    async def both(top: Path) -> None:
        expected = await store_operations(bucket_in_memory(top), operations)
        assert await store_operations(seaweed.bucket(prefix(), top), operations) == expected

    with TemporaryDirectory() as top:
        asyncio.run(both(Path(top)))


@pytest.mark.peer("seaweedfs")
async def test_more_objects_than_a_page_are_listed_and_deleted(
    seaweed: Seaweed, tmp_path: Path
) -> None:
    store = seaweed.bucket(prefix(), tmp_path)
    names = [f"many/{number % 3}/{number:05}" for number in range(2_300)]
    places = asyncio.Semaphore(32)

    async def put(name: str) -> None:
        async with places:
            await store.put(name, b"x")

    await asyncio.gather(*map(put, names))
    assert [one.name for one in await store.list("many/")] == sorted(names)
    assert await store.folders("many/") == ["0", "1", "2"]
    await store.delete(*names[1:])
    assert [one.name for one in await store.list("many/")] == names[:1]


# -- what is wrong at the start ------------------------------------------------------------


@pytest.mark.peer("seaweedfs")
@pytest.mark.parametrize(
    ("keys", "bucket", "problem"),
    [
        (("nobody", "HIDDEN"), BUCKET, "written to: the store does not know these keys"),
        (("tester", "HIDDEN"), BUCKET, "written to: the store does not know these keys"),
        (("reader", "s3cret-of-the-reader"), BUCKET, "written to: the keys do not allow it"),
        (tuple(S3_KEYS.values()), "XX", "written to: the store takes no bucket of that name"),
    ],
)
async def test_what_would_not_work_is_told_at_the_start_with_its_cure(
    seaweed: Seaweed, tmp_path: Path, keys: tuple[str, str], bucket: str, problem: str
) -> None:
    given = dict(zip(S3_KEYS, keys, strict=True))
    address = StoreAddress.parse(f"s3://{bucket.lower()}xx?endpoint={seaweed.url}")
    store = open_bucket(address if bucket != "XX" else _with_bucket(address), tmp_path, given)
    with pytest.raises(StorageError, match=problem) as caught:
        await store.check()
    assert not {"HIDDEN", "s3cret"} & set(str(caught.value).split())
    assert "HIDDEN" not in str(caught.value)


def _with_bucket(address: StoreAddress) -> StoreAddress:
    return StoreAddress(scheme="s3", bucket="192.168.1.1", endpoint=address.endpoint)


@pytest.mark.peer("moto")
async def test_a_bucket_that_is_not_there_has_lost_nothing(moto: S3Server, tmp_path: Path) -> None:
    store = moto.bucket(prefix(), tmp_path, bucket="missing")
    with pytest.raises(StorageError, match="written to: there is no such bucket: make it"):
        await store.check()
    for action in (store.read("x"), store.put("x", b""), store.list("x/"), store.open_local("x")):
        with pytest.raises(StorageUnavailableError):
            await action


# -- answers that are lost, cut, or wrong --------------------------------------------------


@pytest.fixture(params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue("seaweed" if request.param == "seaweedfs" else "moto")


def through(proxy: FaultyProxy, scratch: Path) -> Bucket:
    return S3Server(proxy.port).bucket(prefix(), scratch)


def nothing(given: bytes) -> bytes:
    return b""


def half(given: bytes) -> bytes:
    head, _, body = given.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + body[: len(body) // 2]


def half_of_the_text(given: bytes) -> bytes:
    body = given.partition(b"\r\n\r\n")[2]
    return answer("200 OK", body[: len(body) // 2].decode("latin-1"))


async def test_what_was_created_without_an_answer_is_known_to_be_our_own(
    server: S3Server, tmp_path: Path
) -> None:
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        proxy.rules = [Rule(("PUT", "/mine"), times=2, after=nothing)]
        assert await store.create("mine", b"same")
        assert not await store.create("mine", b"same")
        assert await store.read("mine") == b"same"
        assert sum(line.startswith("PUT") for line in proxy.asked) == 4


async def test_whatever_single_requests_meet_they_come_to_their_end(
    server: S3Server, tmp_path: Path
) -> None:
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        await store.put("b/0", b"x")
        for rule in (
            Rule(("",), times=3, before=lambda: SLOW_DOWN),
            Rule(("",), times=2, before=lambda: None),
            Rule(("",), times=2, after=nothing),
            Rule(("",), times=2, after=half),
            Rule(("GET",), times=2, before=lambda: answer("429 Too Many")),
            Rule(("",), times=2, before=lambda: answer("500 Oops", "<Error><Code>Int")),
            Rule(("list-type",), times=2, after=half_of_the_text),
        ):
            for round_ in range(4):
                proxy.rules = [rule]
                if round_ == 0:
                    await store.put("b/1", b"yy")
                elif round_ == 1:
                    assert await store.read("b/1") == b"yy"
                elif round_ == 2:
                    assert [one.name for one in await store.list("b/")] == ["b/0", "b/1"]
                else:
                    await store.delete("b/1")
                    assert [one.name for one in await store.list("b/")] == ["b/0"]


async def test_what_is_not_allowed_is_told_at_once_and_says_nothing_of_what_is_stored(
    server: S3Server, tmp_path: Path
) -> None:
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        proxy.rules = [Rule(("",), times=99, before=lambda: NOT_ALLOWED)]
        for action in (store.put("x", b""), store.read("x"), store.list("x/"), store.delete("x")):
            with pytest.raises(StorageUnavailableError, match="the keys do not allow it"):
                await action
        assert len(proxy.asked) == 4


async def test_a_body_that_is_cut_is_read_on_where_it_was_cut(
    server: S3Server, tmp_path: Path
) -> None:
    data = os.urandom(9 * READ_BYTES + 5)
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        await store.put("x", data)
        for start, end in ((0, None), (READ_BYTES + 3, None), (9, 8 * READ_BYTES)):
            proxy.asked.clear()
            proxy.rules = [Rule(("GET",), times=3, after=half)]
            assert await store.read("x", start, end) == data[start:end]
            assert len(proxy.asked) == 4


async def test_of_an_object_that_was_replaced_nothing_is_mixed(
    server: S3Server, tmp_path: Path
) -> None:
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        await store.put("x", b"old" * READ_BYTES)
        proxy.rules = [Rule(("GET",), after=half)]
        pieces = store.stream("x")
        assert set(await anext(pieces)) <= set(b"old")
        await store.put("x", b"new" * READ_BYTES)
        with pytest.raises(StorageError, match="x: is another now"):
            assert [piece async for piece in pieces]


async def test_an_upload_in_parts_goes_through_whatever_its_requests_meet(
    server: S3Server, tmp_path: Path
) -> None:
    data = os.urandom(2 * PART_BYTES + 99)
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        for rules in (
            [Rule(("POST", "uploads"), times=2, before=lambda: SLOW_DOWN)],
            [Rule(("PUT", "partNumber=2"), times=3, before=lambda: SLOW_DOWN)],
            [Rule(("PUT", "partNumber=1"), times=2, after=nothing)],
            [Rule(("POST", "uploadId"), times=1, before=lambda: None)],
            [Rule(("POST", "uploadId"), times=1, after=nothing)],
        ):
            proxy.rules = rules
            async with store.upload("u") as upload:
                await upload.append(data)
                await upload.commit()
            assert await store.read("u") == data
            assert rules[0].times == 0
            await store.delete("u")


async def test_an_upload_that_is_not_allowed_says_so(server: S3Server, tmp_path: Path) -> None:
    async with faulty_proxy(server.port) as proxy:
        store = through(proxy, tmp_path)
        proxy.rules = [Rule(("PUT", "partNumber"), times=99, before=lambda: NOT_ALLOWED)]

        async def write() -> None:
            async with store.upload("u") as upload:
                for _ in range(6):
                    await upload.append(b"x" * PART_BYTES)
                await upload.commit()

        with pytest.raises(StorageUnavailableError, match="u: the keys do not allow it"):
            await write()
        with pytest.raises(NotStoredError):
            await store.size("u")


# -- what killed processes leave -----------------------------------------------------------


async def test_an_upload_of_a_killed_process_is_ended_when_it_is_old(
    server: S3Server, tmp_path: Path
) -> None:
    at, other = prefix(), prefix()
    for place in (at, other):
        store = connect(server.address(place), S3_KEYS)
        upload = ObjectUpload(store, store, "u-v", SYSTEM_CLOCK, OUTAGE)
        # What is handed over is taken once the store has begun the upload; the second piece can
        # only wait then, and the third until a part is on its way.
        for _ in range(3):
            await upload.append(b"x" * 2 * PART_BYTES)
        # As a process that is killed: nobody tells the store.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "_send_parts" in repr(task):
                task.cancel()
                await asyncio.wait({task})
    young, old = timedelta(days=40_000), timedelta(seconds=-5)
    assert [await _unfinished(server, at).end_abandoned(age) for age in (young, old, old)] == [
        *(0, 1, 0)
    ]
    assert await _unfinished(server, other).end_abandoned(old) == 1


def _unfinished(server: S3Server, at: str) -> UnfinishedUploads:
    unfinished = server.bucket(at, Path())._unfinished  # pyright: ignore[reportPrivateUsage]
    assert unfinished is not None
    return unfinished


async def test_a_store_that_does_not_list_its_uploads_is_told_with_another_way(
    server: S3Server, tmp_path: Path
) -> None:
    async with faulty_proxy(server.port) as proxy:
        for given in (NOT_ALLOWED, answer("200 OK", "<List"), None):
            proxy.rules = [Rule(("uploads",), times=9, before=lambda given=given: given)]
            with pytest.raises(StorageUnavailableError, match="AbortIncompleteMultipartUpload"):
                await through(proxy, tmp_path).clear()
