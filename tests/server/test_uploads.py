"""Uploads: what a form may look like, what is refused while it is read, and what leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.server.conftest import Start
from tests.server.running import LINE, Api, form, message_of, read_answer

pytestmark = pytest.mark.anyio

PURPOSE = ("purpose", None, b"batch")
FILE = ("file", "in.jsonl", LINE)
HEAD = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"


async def refused(api: Api, *parts: tuple[str, str | None, bytes]) -> str:
    body, headers = form(*parts)
    answer = await api.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert api.stored() == []
    assert (await api.http.get("/v1/files")).json()["data"] == []
    return answer.json()["error"]["message"]


@pytest.mark.specified("files.create.order")
@pytest.mark.parametrize("parts", [[PURPOSE, FILE], [FILE, PURPOSE]])
async def test_the_purpose_may_come_before_the_file_or_after_it(
    api: Api, parts: list[tuple[str, str | None, bytes]]
) -> None:
    body, headers = form(*parts)
    answer = await api.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["purpose"] == "batch"
    content = await api.http.get(f"/v1/files/{answer.json()['id']}/content")
    assert content.content == LINE


@pytest.mark.specified("files.create.missing", "errors.envelope")
async def test_what_is_missing_is_named(api: Api) -> None:
    assert await refused(api, FILE) == "Missing required parameter: 'purpose'"
    assert await refused(api, FILE, ("purpose", None, b"")) == (
        "Missing required parameter: 'purpose'"
    )
    assert await refused(api, PURPOSE) == "Missing required parameter: 'file'"
    assert await refused(api) == "Missing required parameter: 'purpose'"


@pytest.mark.specified("files.purposes")
async def test_a_purpose_that_nobody_knows_is_refused_before_the_file_is_read(api: Api) -> None:
    wrong = ("purpose", None, b"training")
    assert "purpose must be one of assistants, assistants_output, batch" in await refused(
        api, FILE, wrong
    )
    async with api.connection() as (reader, writer):
        body, _ = form(wrong, FILE, end=False)
        writer.write(f"{HEAD}Content-Length: 1000000\r\n\r\n".encode() + body)
        status, _, _ = await read_answer(reader)
        assert status == 400


@pytest.mark.specified("files.purposes")
@pytest.mark.parametrize(
    "purpose",
    [
        *("assistants", "assistants_output", "batch", "batch_output"),
        *("fine-tune", "fine-tune-results", "vision", "user_data"),
    ],
)
async def test_every_purpose_of_openai_is_taken(api: Api, purpose: str) -> None:
    file = await api.http.get(f"/v1/files/{await api.upload(purpose=purpose)}")
    assert file.json()["purpose"] == purpose


@pytest.mark.specified("files.create.expires_after")
async def test_an_upload_may_say_how_long_it_is_kept(api: Api) -> None:
    def after(anchor: bytes, seconds: bytes) -> tuple[tuple[str, None, bytes], ...]:
        return (
            ("expires_after[anchor]", None, anchor),
            ("expires_after[seconds]", None, seconds),
        )

    body, headers = form(PURPOSE, *after(b"created_at", b"3600"), FILE)
    answer = await api.http.post("/v1/files", content=body, headers=headers)
    file = answer.json()
    assert file["expires_at"] == file["created_at"] + 3600
    api.time.seconds += 3600
    assert (await api.http.get(f"/v1/files/{file['id']}")).status_code == 404
    assert await api.clear() == 1
    message = "expires_after.anchor must be 'created_at'"
    assert await refused(api, PURPOSE, *after(b"now", b"3600"), FILE) == message
    between = "expires_after.seconds must be between 3600 (1 hour) and 2592000 (30 days)"
    for seconds in (b"3599", b"2592001", b"", b"1e4", b"-5", b"9" * 500, "\u0663".encode() * 4):
        assert await refused(api, PURPOSE, *after(b"created_at", seconds), FILE) == between
    assert await refused(api, PURPOSE, after(b"created_at", b"3600")[0], FILE) == between


@pytest.mark.specified("files.create.filename")
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("in.jsonl", "in.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\in.jsonl", "in.jsonl"),
        ("\u00fcber \u6587.jsonl", "\u00fcber \u6587.jsonl"),
        ("a\x00b\x1b[31m.jsonl", "ab[31m.jsonl"),
        ("", "upload"),
        ("x" * 1000, "x" * 255),
    ],
)
async def test_a_file_keeps_its_name_and_nothing_that_could_do_harm(
    api: Api, given: str, kept: str
) -> None:
    body, headers = form(PURPOSE, ("file", given, LINE))
    answer = await api.http.post("/v1/files", content=body, headers=headers)
    if answer.status_code == 400:
        # A name that a header cannot hold, which the form's grammar already refuses.
        assert "\0" in given
        return
    assert answer.json()["filename"] == kept


@pytest.mark.specified("files.size_limit")
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_that_is_too_large_is_refused_while_it_is_sent(
    start: Start, chunked: bool
) -> None:
    async with start(max_file_bytes=100_000) as api, api.connection() as (reader, writer):
        body, _ = form(PURPOSE, ("file", "f", b"x" * 150_000), end=False)
        length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000"
        if chunked:
            body = b"%x\r\n" % len(body) + body + b"\r\n"
        # The rest never comes: the answer does not wait for it.
        writer.write(f"{HEAD}{length}\r\n\r\n".encode() + body)
        status, _, answer = await read_answer(reader)
        assert status == 400
        assert message_of(answer) == "File size exceeds the maximum allowed size of 100000 bytes"
        assert api.stored() == []


@pytest.mark.specified("files.size_limit")
async def test_an_upload_that_says_that_it_is_too_large_is_refused_unread(start: Start) -> None:
    async with start(max_file_bytes=100_000) as api, api.connection() as (reader, writer):
        writer.write(f"{HEAD}Content-Length: 99999999\r\n\r\n".encode())
        status, _, _ = await read_answer(reader)
        assert status == 400


@pytest.mark.specified("files.size_limit")
async def test_a_client_that_sends_on_still_gets_its_answer(start: Start) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield form(PURPOSE, ("file", "f", b""), end=False)[0][:-2]
        for _ in range(300):
            yield b"x" * 100_000

    async with start(max_file_bytes=100_000) as api:
        answer = await api.http.post("/v1/files", content=endless(), headers=form()[1])
        assert answer.status_code == 400
        assert "File size exceeds" in answer.text
        assert (await api.http.get("/v1/files")).status_code == 200


@pytest.mark.specified("files.size_limit")
async def test_a_file_of_just_the_allowed_size_is_taken(start: Start) -> None:
    async with start(max_file_bytes=1000) as api:
        await api.upload(b"x" * 1000, "vision")
        assert await refused_upload(api, b"x" * 1001) == (
            "File size exceeds the maximum allowed size of 1000 bytes"
        )


async def refused_upload(api: Api, data: bytes) -> str:
    body, headers = form(PURPOSE, ("file", "f", data))
    answer = await api.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code in (400, 403), answer.text
    return answer.json()["error"]["message"]


@pytest.mark.specified("files.line_limit")
async def test_a_batch_file_of_too_many_lines_is_refused_and_other_files_are_not(
    start: Start,
) -> None:
    async with start(max_file_lines=3) as api:
        for data in (b"a\nb\nc\n", b"a\nb\nc", b""):
            await api.upload(data)
        message = "File exceeds the maximum allowed line count of 3"
        for data in (b"a\nb\nc\nd\n", b"a\nb\nc\nd", b"\n" * 4):
            assert await refused_upload(api, data) == message
            body, headers = form(("file", "f", data), PURPOSE)
            answer = await api.http.post("/v1/files", content=body, headers=headers)
            assert answer.json()["error"]["message"] == message
        await api.upload(b"\n" * 10, "vision")


@pytest.mark.specified("files.broken_upload")
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_that_breaks_off_leaves_nothing(api: Api, chunked: bool) -> None:
    body, _ = form(PURPOSE, ("file", "f", b"x" * 500_000), end=False)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body) + 1000}"
    framed = b"%x\r\n" % len(body) + body + b"\r\n" if chunked else body
    async with api.connection() as (_, writer):
        writer.write(f"{HEAD}{length}\r\n\r\n".encode() + framed)
        await writer.drain()
        while not api.stored():
            await asyncio.sleep(0.01)
    while api.stored():
        await asyncio.sleep(0.01)
    assert (await api.http.get("/v1/files")).json()["data"] == []


@pytest.mark.specified("files.broken_upload")
async def test_a_form_without_its_end_is_refused(api: Api) -> None:
    body, headers = form(PURPOSE, FILE, end=False)
    answer = await api.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == 400
    assert "broken off or malformed" in answer.text
    assert api.stored() == []


@pytest.mark.specified("files.stalled_upload")
async def test_an_upload_that_stands_still_is_ended_and_leaves_nothing(start: Start) -> None:
    async with start(stall_timeout=0.2) as api, api.connection() as (reader, writer):
        body, _ = form(PURPOSE, ("file", "f", b"x" * 100_000), end=False)
        writer.write(f"{HEAD}Content-Length: 1000000\r\n\r\n".encode() + body)
        status, _, answer = await read_answer(reader)
        assert status == 408
        assert "stood still" in message_of(answer)
        assert api.stored() == []


@pytest.mark.specified("files.stalled_upload")
async def test_an_upload_that_drips_is_ended_when_its_whole_time_is_over(start: Start) -> None:
    async with start(read_timeout=0.3) as api, api.connection() as (reader, writer):
        writer.write(f"{HEAD}Content-Length: 1000000\r\n\r\n".encode() + form(FILE)[0][:50])
        answer = asyncio.create_task(read_answer(reader))
        while not answer.done():
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert (await answer)[0] == 408


@pytest.mark.specified("files.create.odd_forms", "never.500")
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="',
        "multipart/form-data; boundary=" + "b" * 500,
        "multipart/mixed; boundary=xyz",
        "multipart/form-data; boundary=\xff",
    ],
)
async def test_a_body_that_is_no_form_is_refused(api: Api, content_type: str | None) -> None:
    headers = {} if content_type is None else {b"content-type": content_type.encode("latin-1")}
    answer = await api.http.post("/v1/files", content=form(PURPOSE, FILE)[0], headers=headers)
    assert answer.status_code == 400
    assert api.stored() == []


@pytest.mark.specified("files.create.odd_forms", "never.500")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"xyz",
        b"--xyz--\r\n",
        b"\r\n" * 1000,
        b"--xyz\r\n\r\n\r\n--xyz--\r\n",
        b'--xyz\r\nContent-Disposition: form-data; name="file"\r\n--xyz--\r\n',
        b"--xyz\r\n" + b"X-Long: " + b"y" * 100_000 + b"\r\n\r\n\r\n--xyz--\r\n",
        b"--xyz\r\n" + b"X-Many: y\r\n" * 1000 + b"\r\n\r\n--xyz--\r\n",
        form(*[("f", None, b"")] * 100)[0],
        form(("purpose", None, b"batch" * 10_000), FILE)[0],
        form(PURPOSE, FILE, FILE)[0],
        form(("purpose", None, b"\xff\x00"), FILE)[0],
        form(PURPOSE, ("fi\0le", "x", b""))[0],
    ],
)
async def test_an_odd_form_is_refused_and_leaves_nothing(api: Api, body: bytes) -> None:
    answer = await api.http.post("/v1/files", content=body, headers=form()[1])
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert api.stored() == []


@pytest.mark.specified("files.expect_continue")
async def test_a_client_that_asks_first_is_told_to_go_on(api: Api) -> None:
    body, _ = form(PURPOSE, FILE)
    head = f"{HEAD}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    async with api.connection() as (reader, writer):
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        status, _, _ = await read_answer(reader)
        assert status == 200


@pytest.mark.specified("limits.tenant")
async def test_a_tenant_has_room_for_so_many_files_and_bytes(start: Start) -> None:
    async with start(max_files=2, max_bytes=100) as api:
        first = await api.upload(b"x" * 60, "vision")
        assert "would exceed the 100 bytes" in await refused_upload(api, b"x" * 50)
        await api.upload(b"x" * 40, "vision")
        assert "There are 2 files, the most that are allowed" in await refused_upload(api, b"")
        assert len(api.stored()) == 2
        await api.http.delete(f"/v1/files/{first}")
        await api.upload(b"x" * 60, "vision")
        body, headers = form(PURPOSE, FILE)
        other = await api.http.post(
            "/v1/files", content=body, headers={**headers, "X-MaaS-Username": "other"}
        )
        assert other.status_code == 200


@pytest.mark.specified("limits.tenant")
async def test_of_uploads_at_once_no_more_are_kept_than_are_allowed(start: Start) -> None:
    async with start(max_files=3) as api:
        body, headers = form(PURPOSE, FILE)
        answers = await asyncio.gather(
            *(api.http.post("/v1/files", content=body, headers=headers) for _ in range(10))
        )
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [403] * 7
        assert len(api.stored()) == 3
