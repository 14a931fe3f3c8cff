"""The page at `/`, as HTTP shows it: what is on it, for whom, and what it lets happen."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from batch_gateway.server.page_events import event
from batch_gateway.server.page_failures import group_failures
from batch_gateway.service.api_keys import create_api_key, revoke_api_key
from batch_gateway.service.batch_records import note
from batch_gateway.service.file_records import FileState, add_file, object_name
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.wire.lines import error_line, error_response_line, line_id
from tests.server.running import Api, running_api
from tests.service.records import NOW, a_file

pytestmark = pytest.mark.anyio

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\r\ndata: x"
FROM_THE_PAGE = {"sec-fetch-site": "same-origin"}


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path / "data", has_page=True) as api:
        yield api


async def a_batch(api: Api, tenant: str = "default", **different: Any) -> str:
    headers = {"x-maas-username": tenant}
    answer = await api.submit(headers=headers, **different)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def text_of(api: Api, path: str, **headers: str) -> str:
    answer = await api.http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", answer.text)))


async def a_failed_line_file(api: Api, lines: bytes, tenant: str = "default") -> str:
    record = a_file(tenant=tenant, purpose="batch_output", bytes=len(lines), status="processed")
    await api.state.storage.put(object_name(record.id), lines)
    await api.state.database.write(partial(add_file, record=record, state=FileState.STORED))
    return record.id


async def test_the_list_says_of_each_batch_where_it_is_and_how_it_goes_on(page: Api) -> None:
    batch_id = await a_batch(page)
    assert f"{batch_id} validating" in await text_of(page, "/")
    await page.happen(
        batch_id, BatchEvent.VALID,
        total=4000, completed=990, failed=10, input_tokens=12345, output_tokens=678, model="llama",
    )  # fmt: skip
    page.time.seconds += 600
    shown = await text_of(page, "/")
    for words in (
        "1 of 1 shown is under way",
        "in progress",
        "1,000 of 4,000 done (25 %)",
        "10 failed",
        # 1,000 took ten minutes.
        "31 min to go at this pace",
        "window open for 23 h 51 min",
        "12,345 tokens in, 678 out",
        "llama",
    ):
        assert words in shown


async def test_what_holds_a_batch_up_is_said_and_no_end_is_promised(page: Api) -> None:
    batch_id = await a_batch(page)
    await page.happen(batch_id, BatchEvent.VALID, total=10, completed=5)
    page.time.seconds += 60
    await page.state.database.write(
        partial(note, batch_id=batch_id, words="the gateway does not answer")
    )
    for path in ("/", f"/batches/{batch_id}"):
        shown = await text_of(page, path)
        assert "the gateway does not answer" in shown
        assert "to go at this pace" not in shown


async def test_an_input_that_cannot_be_run_is_told_line_by_line(page: Api) -> None:
    batch_id = await a_batch(page)
    problems = [
        {"code": "invalid_json_line", "message": "This is no JSON", "param": None, "line": 1234},
        {"code": "duplicate_custom_id", "message": "again", "param": "custom_id", "line": 1240},
    ]
    errors = msgspec.json.encode(problems).decode()
    await page.happen(batch_id, BatchEvent.INVALID, errors=errors)
    shown = await text_of(page, f"/batches/{batch_id}")
    assert "1,234 invalid_json_line This is no JSON" in shown
    assert "1,240 duplicate_custom_id again" in shown


async def test_failed_lines_are_told_by_kind_with_examples_and_both_files_can_be_had(
    page: Api,
) -> None:
    batch_id = await a_batch(page)
    lines = [
        error_response_line(
            line_id("a" * 12, 6), "q-7", 400, "r", b'{"error":{"message":"too long: 9 tokens"}}'
        ),
        error_response_line(
            line_id("a" * 12, 8), "q-9", 400, "r", b'{"error":{"message":"too long: 7 tokens"}}'
        ),
        error_line(line_id("a" * 12, 3), "q-4", "timeout", "no answer in 60s"),
    ]
    error_file = await a_failed_line_file(page, b"".join(lines))
    output_file = await a_failed_line_file(page, b"{}\n")
    await page.happen(batch_id, BatchEvent.VALID, total=10)
    await page.happen(batch_id, BatchEvent.ALL_DONE)
    await page.happen(
        batch_id, BatchEvent.WRITTEN,
        completed=7, failed=3, output_file_id=output_file, error_file_id=error_file,
    )  # fmt: skip
    shown = await text_of(page, f"/batches/{batch_id}")
    assert "completed" in shown
    assert "2 HTTP 400 too long: 9 tokens 7: q-7 9: q-9" in shown
    assert "1 timeout no answer in 60s 4: q-4" in shown
    for path, there in (("/", "files/"), (f"/batches/{batch_id}", "../files/")):
        links = set(re.findall(r'href="([^"]*files/[^"]*)"', (await page.http.get(path)).text))
        assert {f"{there if path != '/' else './' + there}{output_file}"} <= links
    answer = await page.http.get(f"/files/{error_file}")
    assert answer.content == b"".join(lines)
    assert answer.headers["content-disposition"].startswith("attachment")


async def test_failures_of_a_batch_that_runs_are_those_in_its_parts(page: Api) -> None:
    from batch_gateway.engine.result_line import Role
    from batch_gateway.service.parts import ending
    from batch_gateway.service.tables import parts

    batch_id = await a_batch(page)
    await page.happen(batch_id, BatchEvent.VALID, total=10, failed=1)
    name = f"batches/{batch_id}/000000/1-1.{ending(Role.FAILURE)}"
    line = error_line(line_id("a" * 12, 0), "q-1", "timeout", "no answer")
    await page.state.storage.put(name, line)
    row = {"batch_id": batch_id, "shard": 0, "name": name, "epoch": 1, "bytes": 9, "lines": 1}
    await page.state.database.write(lambda connection: connection.execute(parts.insert(), row))
    assert "1 timeout no answer 1: q-1" in await text_of(page, f"/batches/{batch_id}")


def test_lines_that_are_no_result_lines_are_left_out_of_the_kinds() -> None:
    odd = [
        b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"id":1,"custom_id":"x"}', b"\xff",
        b'{"id":"x","custom_id":"y","response":{"status_code":500,"body":"text"},"error":null}',
        b'{"id":"x","custom_id":"y","response":{"status_code":500,"body":{"error":"words"}}}',
        b'{"id":"x","custom_id":"y","error":{"code":5,"message":["a"]}}',
        b'{"id":"x","custom_id":"y"}',
    ]  # fmt: skip
    assert sorted((one.what, one.message, one.examples) for one in group_failures(odd)) == [
        ("5", "['a']", [(None, "y")]),
        ("HTTP 500", "", [(None, "y")]),
        ("HTTP 500", "words", [(None, "y")]),
        ("error", "", [(None, "y")]),
    ]


async def test_nothing_that_users_wrote_can_be_markup(page: Api) -> None:
    file = await page.http.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": (NASTY, b"{}\n")}
    )
    batch_id = await a_batch(page, file_id=file.json()["id"], metadata={NASTY[:60]: NASTY})
    errors = [{"code": NASTY, "message": NASTY, "param": None, "line": 1}]
    await page.happen(
        batch_id, BatchEvent.INVALID,
        errors=msgspec.json.encode(errors).decode(), model=NASTY, notice=NASTY,
    )  # fmt: skip
    for path in ("/", f"/batches/{batch_id}", "/batches/" + "%3Cscript%3E", "/?after=%3Cscript%3E"):
        answer = await page.http.get(path)
        assert "alert(1)" in answer.text or "%3Cscript" in path
        assert "<script>" not in answer.text
        assert "<img" not in answer.text
        assert "\u202e" not in answer.text
    async with page.http.stream("GET", f"/batches/{batch_id}/events") as stream:
        async for line in stream.aiter_lines():
            assert line == "" or line.startswith(("event: ", "data: ")), line
            assert line != "data: x"
            if line == "event: actions":
                break


@pytest.mark.parametrize("path", ["/", "/batches/nothing", "/static/page.css", "/files/none"])
async def test_nothing_on_it_can_run_or_be_loaded_from_elsewhere(page: Api, path: str) -> None:
    answer = await page.http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert not re.search(r"<[^>]+\s(?:on\w+|style)=", answer.text)
    assert not re.search(r"(?:src|href)=\"(?:\w+:)?//", answer.text)


async def test_static_files_are_asked_for_once_and_nothing_else_is_there(page: Api) -> None:
    for name in ("htmx.min.js", "htmx-sse.min.js", "page.js", "page.css", "icon.svg"):
        answer = await page.http.get(f"/static/{name}")
        assert answer.status_code == 200
        again = await page.http.get(
            f"/static/{name}", headers={"if-none-match": answer.headers["etag"]}
        )
        assert again.status_code == 304
    for name in ("list.html.jinja", "..%2Flist.html.jinja", "%2e%2e", "htmx.LICENSE.txt", "%00"):
        assert (await page.http.get(f"/static/{name}")).status_code == 404


async def test_a_tenant_sees_and_changes_nothing_of_anothers(page: Api) -> None:
    batch_id = await a_batch(page, "a")
    error_file = await a_failed_line_file(page, b"secret", "a")
    other = {"x-maas-username": "b"}
    assert batch_id in (await page.http.get("/", headers={"x-maas-username": "a"})).text
    assert batch_id not in (await page.http.get("/", headers=other)).text
    assert batch_id not in (await page.http.get("/")).text
    for path in (f"/batches/{batch_id}", f"/batches/{batch_id}/events", f"/files/{error_file}"):
        assert (await page.http.get(path, headers=other)).status_code == 404
    cancelled = await page.http.post(f"/batches/{batch_id}/cancel", headers=other | FROM_THE_PAGE)
    assert cancelled.status_code == 404
    assert page.cancelled == []


async def test_cancel_is_for_the_page_itself(page: Api) -> None:
    batch_id = await a_batch(page)
    path = f"/batches/{batch_id}/cancel"
    host = page.url.removeprefix("http://")
    for headers in (
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": page.url},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"http://{host}.evil.example"},
    ):
        assert (await page.http.post(path, headers=headers)).status_code == 403, headers
    assert page.cancelled == []
    for headers in (FROM_THE_PAGE, {"origin": page.url}):
        answer = await page.http.post(path, headers=headers)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"../{batch_id}"
    assert page.cancelled == [batch_id]
    assert "cancelled" in await text_of(page, f"/batches/{batch_id}")


async def test_what_cannot_be_done_is_told_on_a_page(page: Api) -> None:
    batch_id = await a_batch(page)
    await page.happen(batch_id, BatchEvent.INVALID)
    answer = await page.http.post(f"/batches/{batch_id}/cancel", headers=FROM_THE_PAGE)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Batch with status failed cannot be cancelled" in answer.text
    assert 'href="../../"' in answer.text


async def test_older_batches_are_on_pages_of_their_own(page: Api) -> None:
    ids = [await a_batch(page) for _ in range(23)]
    first = (await page.http.get("/")).text
    older = html.unescape(re.findall(r'href="([^"]*after=[^"]*)"', first)[0])
    second = (await page.http.get(older.removeprefix("."))).text
    for number, batch_id in enumerate(reversed(ids)):
        assert (batch_id in first) is (number < 20)
        assert (f'id="{batch_id}"' in second) is (number >= 20)
    assert f'sse-connect="./events?after={ids[3]}"' in second


async def events_of(stream: httpx2.Response) -> AsyncIterator[tuple[str, str]]:
    name, data = "", list[str]()
    async for line in stream.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and name:
            yield name, "\n".join(data)
            name, data = "", []


async def next_event(events: AsyncIterator[tuple[str, str]], place: str) -> str:
    async for name, data in events:
        if name == place:
            return data
    raise AssertionError(f"the stream ended without {place}")


async def test_what_changes_is_told_and_what_does_not_is_not(page: Api) -> None:
    ids = [await a_batch(page), await a_batch(page)]
    async with page.http.stream("GET", "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = events_of(stream)
        assert ids[0] in await next_event(events, "batches")
        await next_event(events, ids[0])
        await page.happen(ids[1], BatchEvent.VALID, total=10, completed=3)
        name, data = await anext(events)
        assert name == ids[1]
        assert "<b>3</b> of 10 done" in data
        new = await a_batch(page)
        name, data = await anext(events)
        assert name == "batches"
        assert new in data


async def test_the_page_of_a_batch_follows_it_to_its_end(page: Api) -> None:
    batch_id = await a_batch(page)
    async with page.http.stream("GET", f"/batches/{batch_id}/events") as stream:
        events = events_of(stream)
        assert "cancel" in await next_event(events, "actions")
        await page.happen(batch_id, BatchEvent.CANCEL)
        assert "cancelled" in await next_event(events, "state")
        assert await next_event(events, "actions") == ""


async def test_events_go_on_for_longer_than_the_head_of_a_request_may_take(tmp_path: Path) -> None:
    running = running_api(tmp_path / "data", has_page=True, read_header_timeout=0.2)
    async with running as page, page.http.stream("GET", "/events") as stream:
        events = events_of(stream)
        await next_event(events, "summary")
        # The next look is a second later.
        batch_id = await a_batch(page)
        assert batch_id in await next_event(events, "batches")


async def test_a_stopping_server_waits_for_no_reader_of_events(tmp_path: Path) -> None:
    async with httpx2.AsyncClient() as http, contextlib.AsyncExitStack() as stack:
        running = running_api(tmp_path / "data", has_page=True, shutdown_timeout="600s")
        async with running as page:
            stream = await stack.enter_async_context(http.stream("GET", f"{page.url}/events"))
            events = events_of(stream)
            await next_event(events, "summary")
        assert [name async for name, _ in events] == []


async def test_readers_are_few_enough_for_everybody_and_make_room_when_they_go(
    tmp_path: Path,
) -> None:
    async with (
        running_api(tmp_path / "data", has_page=True, max_connections=16) as page,
        contextlib.AsyncExitStack() as stack,
    ):
        first = contextlib.AsyncExitStack()
        for held in (first, stack):
            await held.enter_async_context(page.http.stream("GET", "/events"))
        refused = await page.http.get("/events")
        assert refused.status_code == 503
        # Another tenant has its own share.
        other = page.http.stream("GET", "/events", headers={"x-maas-username": "b"})
        assert (await stack.enter_async_context(other)).status_code == 200
        await first.aclose()
        for _ in range(200):
            async with page.http.stream("GET", "/events") as again:
                if again.status_code == 200:
                    break
        else:
            pytest.fail("the place of a reader that is gone is not free")


@pytest.mark.parametrize("text", ["", "a\nb", "a\r\nevent: evil\rdata: x", "\ud800"])
def test_an_event_is_one_event_whatever_is_in_it(text: str) -> None:
    [name, *data, end, nothing] = event("place", text).decode().split("\n")
    assert (name, end, nothing) == ("event: place", "", "")
    assert data
    assert all(line.startswith("data:") for line in data)


async def a_key(api: Api, tenant: str) -> tuple[str, str]:
    key, secret = await api.state.database.write(
        partial(create_api_key, tenant=tenant, label="", now=NOW)
    )
    return key.id, secret


async def test_with_keys_on_somebody_signs_in_once_and_the_key_is_shown_nowhere(
    tmp_path: Path,
) -> None:
    async with running_api(tmp_path / "data", has_page=True, api_keys=True) as page:
        key_id, secret = await a_key(page, "a")
        batch_id = (await page.submit(headers={"authorization": f"Bearer {secret}"})).json()["id"]
        for path in ("/", "/events", f"/batches/{batch_id}", "/files/file_1"):
            answer = await page.http.get(path, headers={"x-maas-username": "a"})
            assert answer.status_code == 401
            assert "API key" in answer.text
            assert batch_id not in answer.text.replace(path, "")
        wrong = await page.http.post("/sign-in", data={"key": "bgw_no"}, headers=FROM_THE_PAGE)
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        foreign = {"sec-fetch-site": "cross-site"}
        answer = await page.http.post("/sign-in", data={"key": secret}, headers=foreign)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        answer = await page.http.post("/sign-in", data={"key": secret}, headers=FROM_THE_PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"]
        assert "; HttpOnly; SameSite=Strict" in cookie
        assert secret not in cookie
        shown = (await page.http.get("/")).text
        assert batch_id in shown
        assert secret not in shown
        async with page.http.stream("GET", "/events") as stream:
            events = events_of(stream)
            await next_event(events, batch_id)
            await page.state.database.write(partial(revoke_api_key, key_id=key_id, now=NOW))
            assert [name async for name, _ in events] == []
        assert (await page.http.get("/")).status_code == 401


async def test_signing_out_takes_the_session_and_cookies_of_strangers_are_none(
    tmp_path: Path,
) -> None:
    async with running_api(tmp_path / "data", has_page=True, api_keys=True) as page:
        _, secret = await a_key(page, "a")
        await page.http.post("/sign-in", data={"key": secret}, headers=FROM_THE_PAGE)
        assert "Sign out" in (await page.http.get("/")).text
        kept = page.http.cookies["batch_gateway_session"]
        # The session is for the page alone, which others cannot make a browser use.
        assert (await page.http.get("/v1/files")).status_code == 401
        await page.http.post("/sign-out", headers=FROM_THE_PAGE)
        assert (await page.http.get("/")).status_code == 401
        for value in ("x", kept, secret, '"', "gAAAA" + "A" * 100, "%00", "é".encode("latin-1")):
            prefix = b"batch_gateway_session="
            cookie = prefix + (value if isinstance(value, bytes) else value.encode())
            assert (await page.http.get("/", headers={b"cookie": cookie})).status_code == 401


@pytest.mark.parametrize("body", [b"", b"key", b"key=%ff", b"\xff=\xff", b"a=1&" * 900, b"key=%00"])
async def test_no_sign_in_makes_the_server_fail(tmp_path: Path, body: bytes) -> None:
    async with running_api(tmp_path / "data", has_page=True, api_keys=True) as page:
        answer = await page.http.post("/sign-in", content=body, headers=FROM_THE_PAGE)
        assert answer.status_code == 401
        large = await page.http.post("/sign-in", content=b"x" * 5000, headers=FROM_THE_PAGE)
        assert large.status_code == 413
