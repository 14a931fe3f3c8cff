"""Downloads: whole, in ranges, known already, and by slow readers."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import unquote

import pytest

from batch_gateway.errors import StorageError
from batch_gateway.server.download import content_disposition
from tests.server.conftest import Start
from tests.server.running import Api, form

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 40


@pytest.mark.specified("files.content", "head")
async def test_a_file_is_downloaded_with_its_name_length_and_tag(api: Api) -> None:
    file_id = await api.upload(DATA)
    for ask in (api.http.get, api.http.head):
        answer = await ask(f"/v1/files/{file_id}/content")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == 'attachment; filename="in.jsonl"'
        assert answer.headers["content-length"] == str(len(DATA))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["etag"] == f'"{file_id}"'
        assert answer.content == (DATA if ask == api.http.get else b"")


@pytest.mark.specified("files.content.ranges")
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=10000-", 10000, 10240),
        ("bytes=-1", 10239, 10240),
        ("bytes=-99999", 0, 10240),
        ("bytes=5-99999999999", 5, 10240),
        ("bytes = 5 - 6", 5, 7),
        ("Bytes=5-6", 5, 7),
        ("bytes=5-" + "9" * 50, 5, 10240),
        ("bytes=-" + "9" * 50, 0, 10240),
    ],
)
async def test_a_range_is_answered_with_it(api: Api, asked: str, start: int, end: int) -> None:
    file_id = await api.upload(DATA)
    answer = await api.http.get(f"/v1/files/{file_id}/content", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.specified("files.content.ranges")
@pytest.mark.parametrize(
    "asked", ["bytes=1-2,4-5", "lines=1-2", "bytes=9-1", "bytes=", "bytes=a-b", "bytes=--1", "-"]
)
async def test_a_range_that_means_nothing_gets_the_whole(api: Api, asked: str) -> None:
    file_id = await api.upload(DATA)
    answer = await api.http.get(f"/v1/files/{file_id}/content", headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, DATA)


@pytest.mark.specified("files.content.ranges")
@pytest.mark.parametrize(
    "asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0", "bytes=" + "9" * 50 + "-"]
)
async def test_a_range_outside_of_the_file_is_416(api: Api, asked: str) -> None:
    file_id = await api.upload(DATA)
    answer = await api.http.get(f"/v1/files/{file_id}/content", headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.specified("files.content.etag")
async def test_who_has_the_file_need_not_load_it_again(api: Api) -> None:
    file_id = await api.upload(DATA)
    for known in (f'"{file_id}"', f'"x", W/"{file_id}"', "*"):
        path = f"/v1/files/{file_id}/content"
        answer = await api.http.get(path, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{file_id}"'
    twice = [("if-none-match", '"x"'), ("if-none-match", f'"{file_id}"')]
    assert (await api.http.get(path, headers=twice)).status_code == 304
    headers = {"range": "bytes=0-4", "if-range": f'"{file_id}"'}
    assert (await api.http.get(path, headers=headers)).content == DATA[:5]
    headers["if-range"] = '"another"'
    assert (await api.http.get(path, headers=headers)).content == DATA


@pytest.mark.specified("files.content.etag")
async def test_who_wants_another_version_only_gets_none(api: Api) -> None:
    path = f"/v1/files/{(file_id := await api.upload(DATA))}/content"
    for wanted in (f'"{file_id}"', f'"x", "{file_id}"', "*"):
        assert (await api.http.get(path, headers={"if-match": wanted})).content == DATA
    for other in ('"x"', f'W/"{file_id}"'):  # a weak tag says too little (RFC 9110 §8.8.3.2)
        answer = await api.http.get(path, headers={"if-match": other})
        assert answer.status_code == 412


async def test_an_empty_file_is_downloaded_as_such(api: Api) -> None:
    file_id = await api.upload(b"")
    answer = await api.http.get(f"/v1/files/{file_id}/content")
    assert (answer.status_code, answer.content) == (200, b"")
    answer = await api.http.get(f"/v1/files/{file_id}/content", headers={"range": "bytes=0-"})
    assert answer.status_code == 416


@pytest.mark.specified("files.content.name")
@pytest.mark.parametrize(
    "name", ['a"b.jsonl', "a\\b", "\u00fcber.jsonl", "\u6587\u4ef6", "a;b\r\nSet-Cookie: x", "%41"]
)
async def test_a_name_stays_within_its_header(name: str) -> None:
    shown = content_disposition(name)
    assert shown.isascii()
    assert shown.isprintable()
    plain, _, encoded = shown.partition("; filename*=UTF-8''")
    assert plain.count('"') == 2
    assert unquote(encoded) == name


@pytest.mark.specified("files.content.slow")
async def test_a_slow_reader_gets_everything_and_holds_up_nobody(api: Api) -> None:
    data = os.urandom(8_000_000)
    body, headers = form(("purpose", None, b"vision"), ("file", "f", data))
    created = await api.http.post("/v1/files", content=body, headers=headers)
    path = f"/v1/files/{created.json()['id']}/content"
    async with api.connection() as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        read = bytearray()
        while len(read) < len(data):
            read += await reader.read(200_000)
            assert (await api.http.get("/v1/files?limit=1")).status_code == 200
        assert read == data


@pytest.mark.specified("files.content.slow")
async def test_a_reader_that_takes_nothing_at_all_is_left(start: Start) -> None:
    async with start(write_stall_timeout=0.2) as api:
        file_id = await api.upload(os.urandom(20_000_000), "vision")
        async with api.connection() as (reader, writer):
            writer.write(f"GET /v1/files/{file_id}/content HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            opened = len(api.open_objects())
            assert opened == 1
            while api.open_objects():
                await asyncio.sleep(0.02)


async def test_a_reader_that_goes_away_leaves_nothing_open(api: Api) -> None:
    file_id = await api.upload(os.urandom(20_000_000), "vision")
    async with api.connection() as (reader, writer):
        writer.write(f"GET /v1/files/{file_id}/content HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        assert api.open_objects()
    while api.open_objects():
        await asyncio.sleep(0.02)


@pytest.mark.specified("files.delete")
async def test_a_file_is_downloaded_to_its_end_though_it_is_deleted(api: Api) -> None:
    data = os.urandom(8_000_000)
    file_id = await api.upload(data, "vision")
    async with api.http.stream("GET", f"/v1/files/{file_id}/content") as answer:
        pieces = answer.aiter_bytes()
        first = await anext(pieces)
        assert (await api.http.delete(f"/v1/files/{file_id}")).status_code == 200
        rest = [piece async for piece in pieces]
    assert first + b"".join(rest) == data
    assert api.stored() == []


@pytest.mark.specified("files.delete")
async def test_a_deleted_input_is_kept_unseen_until_its_batch_has_ended(api: Api) -> None:
    file_id = await api.upload()
    batch = (await api.submit(file_id)).json()
    assert (await api.http.delete(f"/v1/files/{file_id}")).status_code == 200
    assert (await api.http.get(f"/v1/files/{file_id}")).status_code == 404
    assert (await api.http.delete(f"/v1/files/{file_id}")).status_code == 404
    assert len(api.stored()) == 1
    await api.http.post(f"/v1/batches/{batch['id']}/cancel")
    assert await api.clear() == 1
    assert api.stored() == []


@pytest.mark.specified("files.delete")
async def test_a_file_whose_bytes_resist_is_gone_all_the_same_and_cleared_away_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await api.upload()

    async def fail(name: str) -> bool:
        raise StorageError(f"{name}: Input/output error")

    monkeypatch.setattr(api.state.storage, "delete", fail)
    assert (await api.http.delete(f"/v1/files/{file_id}")).status_code == 200
    assert (await api.http.get(f"/v1/files/{file_id}")).status_code == 404
    monkeypatch.undo()
    assert await api.clear() == 1
    assert api.stored() == []


@pytest.mark.specified("files.expiry")
async def test_what_has_expired_is_cleared_away(api: Api) -> None:
    await api.upload()
    api.time.seconds += 90 * 86400 - 1
    assert await api.clear() == 0
    api.time.seconds += 1
    assert await api.clear() == 1
    assert api.stored() == []


@pytest.mark.specified("files.expiry")
async def test_a_file_that_cannot_be_removed_keeps_no_other(api: Api) -> None:
    first = await api.upload()
    others = [await api.upload() for _ in range(3)]
    place = api.folder / "files" / "objects" / "files" / first
    place.unlink()
    (place / "in the way").mkdir(parents=True)
    assert (await api.http.delete(f"/v1/files/{first}")).status_code == 200
    assert len(api.stored()) == len(others)
    api.time.seconds += 90 * 86400
    with pytest.raises(StorageError):
        await api.clear()
    assert api.stored() == []
    (place / "in the way").rmdir()
    place.rmdir()
    assert await api.clear() == 1
