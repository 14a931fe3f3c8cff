"""Who signs in on the page is signed in at every process, for so long, and after a restart."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Connection, select, update

from batch_gateway.service.api_keys import revoke_api_key
from batch_gateway.service.database import database_now
from batch_gateway.service.session_records import (
    SESSION_SECONDS,
    forget_old_sessions,
    tenant_of_session,
)
from batch_gateway.service.tables import sessions
from tests.peers.postgres import PostgresServer
from tests.server.running import Api, running_api
from tests.server.test_page import FROM_THE_PAGE, NOW, a_key

pytestmark = pytest.mark.anyio


class Fleet:
    """Processes of the API over one database, and a browser that a balancer sends anywhere."""

    def __init__(self, folder: Path, records: str, stack: AsyncExitStack) -> None:
        self._folder, self._records, self._stack = folder, records, stack
        self.browser = httpx2.AsyncClient(timeout=30)

    async def start(self) -> Api:
        """One more, on this machine: a browser has one cookie for all of its ports."""
        opened = running_api(self._folder, has_page=True, api_keys=True, records=self._records)
        return await self._stack.enter_async_context(opened)

    async def sees(self, api: Api) -> int:
        return (await self.browser.get(api.url)).status_code

    async def sign_in(self, api: Api, key: str) -> str:
        """What the browser is to keep."""
        form, headers = {"key": key}, FROM_THE_PAGE
        answer = await self.browser.post(f"{api.url}/sign-in", data=form, headers=headers)
        assert answer.status_code == 303
        return self.browser.cookies["batch_gateway_session"]

    async def sign_out(self, api: Api) -> None:
        await self.browser.post(f"{api.url}/sign-out", headers=FROM_THE_PAGE)


@pytest.fixture
async def fleet(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        fleet = Fleet(tmp_path, postgres.new_database_with_tables(), stack)
        await stack.enter_async_context(fleet.browser)
        yield fleet


async def test_one_sign_in_is_good_at_all_processes_and_at_those_that_come(fleet: Fleet) -> None:
    one, other = await fleet.start(), await fleet.start()
    _, secret = await a_key(one, "a")
    assert await fleet.sees(other) == 401
    await fleet.sign_in(one, secret)
    assert [await fleet.sees(api) for api in (one, other, await fleet.start())] == [200] * 3


async def test_a_sign_out_at_one_process_is_one_at_all_for_whoever_has_the_cookie(
    fleet: Fleet,
) -> None:
    one, other = await fleet.start(), await fleet.start()
    _, secret = await a_key(one, "a")
    kept = await fleet.sign_in(one, secret)
    await fleet.sign_out(other)
    assert await fleet.sees(one) == 401
    fleet.browser.cookies.set("batch_gateway_session", kept, domain="127.0.0.1")
    assert [await fleet.sees(api) for api in (one, other)] == [401, 401]


async def test_a_revoked_key_ends_its_sessions_everywhere_and_no_other(fleet: Fleet) -> None:
    one, other = await fleet.start(), await fleet.start()
    key_id, secret = await a_key(one, "a")
    kept = await fleet.sign_in(one, secret)
    _, second = await a_key(one, "b")
    await fleet.sign_in(one, second)
    await other.state.database.write(partial(revoke_api_key, key_id=key_id, now=NOW))
    assert await fleet.sees(other) == 200
    fleet.browser.cookies.set("batch_gateway_session", kept, domain="127.0.0.1")
    assert [await fleet.sees(api) for api in (one, other)] == [401, 401]


async def test_neither_logs_nor_records_have_what_opens_the_page(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = await fleet.start()
    _, secret = await a_key(api, "a")
    kept = await fleet.sign_in(api, secret)
    await fleet.sees(api)

    def rows(connection: Connection) -> str:
        return repr(connection.execute(select(sessions)).all())

    records = await api.state.database.read(rows)
    for hidden in (secret, kept):
        assert hidden not in records
        # The browser's own library logs all that it sends.
        ours = [one for one in caplog.records if not one.name.startswith("http")]
        assert not [one for one in ours if hidden in one.getMessage()]


async def test_a_session_survives_a_restart_and_ends_by_itself(tmp_path: Path) -> None:
    async with running_api(tmp_path, has_page=True, api_keys=True) as api:
        _, secret = await a_key(api, "a")
        form = {"key": secret}
        await api.http.post("/sign-in", data=form, headers=FROM_THE_PAGE)
        cookies = api.http.cookies
    async with running_api(tmp_path, has_page=True, api_keys=True) as api:
        api.http.cookies = cookies
        assert (await api.http.get("/")).status_code == 200
        moved = {"expires_at": sessions.c.expires_at - SESSION_SECONDS}
        await api.state.database.write(lambda c: c.execute(update(sessions).values(moved)))
        assert (await api.http.get("/")).status_code == 401


async def test_sessions_that_are_over_are_forgotten(tmp_path: Path) -> None:
    async with running_api(tmp_path, has_page=True, api_keys=True) as api:
        _, secret = await a_key(api, "a")
        database = api.state.database
        kept = list[str]()
        for _ in range(2):
            await api.http.post("/sign-in", data={"key": secret}, headers=FROM_THE_PAGE)
            kept.append(api.http.cookies["batch_gateway_session"])
            over = update(sessions).values(expires_at=database_now() - 1)
            if len(kept) == 1:
                await database.write(lambda c, over=over: c.execute(over))
        await database.write(forget_old_sessions)
        rows = await database.read(lambda c: c.execute(select(sessions)).all())
        assert len(rows) == 1
        assert [await tenant_of_session(database, one) for one in kept] == [None, "a"]
