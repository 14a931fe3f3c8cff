"""The service's page in a real browser: live, by keyboard, on a phone, in the dark, and to axe."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch_gateway.service.api_keys import create_api_key
from batch_gateway.service.batch_records import note
from batch_gateway.service.file_records import FileState, add_file, object_name
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from batch_gateway.wire.lines import error_line, line_id
from tests.peers.browser import accessibility_problems
from tests.server.running import Api, running_api
from tests.server.test_report import lines_of, serving
from tests.service.records import NOW, a_file

pytestmark = [pytest.mark.anyio, pytest.mark.peer("browser")]

LONG = "a-name-without-any-place-to-break-it-" * 12
NASTY = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
VIEWS = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path / "data", has_page=True) as running:
        yield running


@contextlib.asynccontextmanager
async def a_tab(browser: Any, **how: Any) -> AsyncIterator[Any]:
    """A page of its own context, in which nothing may be refused by its policy or raise."""
    context = await browser.new_context(**how)
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(f"Error: {error}"))
    yield page
    assert [text for text in said if _is_fault(text)] == []
    await context.close()


def _is_fault(text: str) -> bool:
    return "Security Policy" in text or "Error:" in text


async def submitted(api: Api, **different: Any) -> str:
    return (await api.submit(**different)).json()["id"]


async def stored(api: Api, data: bytes) -> str:
    record = a_file(tenant="default", filename=f"{LONG}.jsonl", bytes=len(data))
    await api.state.storage.put(object_name(record.id), data)
    await api.state.database.write(partial(add_file, record=record, state=FileState.STORED))
    return record.id


async def batches_of_all_kinds(api: Api) -> list[str]:
    waiting = await submitted(api, metadata={NASTY[:64]: NASTY, "long": LONG})
    held_up = await submitted(api)
    await api.happen(held_up, BatchEvent.VALID, total=5000, completed=1200, failed=34, model=LONG)
    await api.state.database.write(partial(note, batch_id=held_up, words=f"{NASTY} {LONG}"))
    bad = await submitted(api)
    errors = [{"code": "invalid_json_line", "message": NASTY + LONG, "param": None, "line": 12}]
    await api.happen(bad, BatchEvent.INVALID, errors=msgspec.json.encode(errors).decode())
    done = await submitted(api)
    await api.happen(done, BatchEvent.VALID, total=2)
    await api.happen(done, BatchEvent.ALL_DONE)
    failed = error_line(line_id("a" * 12, 1), LONG, "timeout", NASTY)
    await api.happen(
        done, BatchEvent.WRITTEN, completed=1, failed=1, cached_tokens=1,
        output_file_id=await stored(api, b"{}\n"), error_file_id=await stored(api, failed),
    )  # fmt: skip
    return [waiting, held_up, bad, done]


@pytest.mark.parametrize("view", VIEWS)
async def test_axe_finds_nothing_and_nothing_sticks_out(browser: Any, api: Api, view: str) -> None:
    ids = await batches_of_all_kinds(api)
    paths = ["/", *(f"/batches/{batch_id}" for batch_id in ids), "/batches/none"]
    async with a_tab(browser, bypass_csp=True, **VIEWS[view]) as page:
        for path in paths:
            await page.goto(api.url + path)
            for opened in await page.locator("summary").all():
                await opened.click()
            assert await accessibility_problems(page) == [], path
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= VIEWS[view]["viewport"]["width"], path
            assert await page.title() != "owned"
            dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (dark == "rgb(16, 20, 27)") is (view == "dark")


async def test_it_follows_its_batches_without_being_loaded_again(browser: Any, api: Api) -> None:
    batch_id = await submitted(api)
    async with a_tab(browser) as page:
        await page.goto(api.url)
        await page.evaluate("window.notLoadedAgain = true")
        await page.locator(f"#open-{batch_id}").focus()
        await api.happen(batch_id, BatchEvent.VALID, total=10, completed=4)
        await page.get_by_text("4 of 10 done (40 %)").wait_for()
        # Whoever is on a link stays there.
        assert await page.evaluate("document.activeElement.id") == f"open-{batch_id}"
        new = await submitted(api)
        await page.locator(f"#{new}").wait_for()
        # What came by itself follows its batch as well.
        await api.happen(new, BatchEvent.INVALID)
        await page.locator(f"#{new}").get_by_text("failed", exact=True).wait_for()
        assert await page.get_by_role("status").inner_text() == "1 of 2 shown is under way."
        assert await page.evaluate("window.notLoadedAgain")


async def test_a_batch_is_cancelled_by_keyboard(browser: Any, api: Api) -> None:
    batch_id = await submitted(api)
    async with a_tab(browser) as page:
        await page.goto(api.url)
        # The name of the program, then the batch.
        for key in ("Tab", "Tab", "Enter"):
            await page.keyboard.press(key)
        await page.wait_for_url(f"**/batches/{batch_id}")
        for key in ("Tab", "Tab", "Tab", "Enter"):
            await page.keyboard.press(key)
        # What opens is drawn a moment later, and only then reached.
        await page.locator("#cancel").wait_for()
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.id") == "cancel"
        await page.keyboard.press("Enter")
        await page.get_by_text("cancelled", exact=True).wait_for()
        assert page.url == f"{api.url}/batches/{batch_id}"
        assert await page.locator("#cancel").count() == 0
    assert api.cancelled == [batch_id]


async def test_without_javascript_there_is_all_but_what_changes_by_itself(
    browser: Any, api: Api
) -> None:
    *_, held_up, _, done = await batches_of_all_kinds(api)
    async with a_tab(browser, java_script_enabled=False) as page:
        await page.goto(api.url)
        await page.locator(f"#open-{done}").click()
        async with page.expect_download() as download:
            await page.locator("#file-errors").click()
        assert (await download.value).suggested_filename.endswith(".jsonl")
        await page.goto(f"{api.url}/batches/{held_up}")
        await page.get_by_text("Cancel…").click()
        await page.locator("#cancel").click()
        await page.get_by_text("cancelling", exact=True).wait_for()


async def test_who_looks_is_told_when_the_server_is_gone(browser: Any, tmp_path: Path) -> None:
    async with a_tab(browser) as page:
        async with running_api(tmp_path / "data", has_page=True) as api:
            await page.goto(api.url)
            batch_id = await submitted(api)
            await page.locator(f"#{batch_id}").wait_for()
            assert not await page.locator("#lost").is_visible()
        await page.get_by_text("Not up to date").wait_for()


async def test_a_page_that_nobody_sees_holds_no_connection(browser: Any, api: Api) -> None:
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    batch_id = await submitted(api)
    async with a_tab(browser) as page:
        async with page.expect_request("**/events"):
            await page.goto(api.url)
        await api.happen(batch_id, BatchEvent.VALID, total=8, completed=1)
        await page.get_by_text("1 of 8 done").wait_for()
        async with page.expect_event("requestfailed"):
            await page.evaluate(hide, True)
        await api.happen(batch_id, BatchEvent.CANCEL)
        await page.evaluate(hide, False)
        await page.get_by_text("cancelling", exact=True).wait_for()


async def test_somebody_signs_in_with_their_key_which_no_script_can_read(
    browser: Any, tmp_path: Path
) -> None:
    async with (
        running_api(tmp_path / "data", has_page=True, api_keys=True) as api,
        a_tab(browser, bypass_csp=True) as page,
    ):
        _, secret = await api.state.database.write(
            partial(create_api_key, tenant="a", label="", now=NOW)
        )
        key = {"authorization": f"Bearer {secret}"}
        batch_id = await submitted(api, headers=key)
        await page.goto(f"{api.url}/batches/{batch_id}")
        assert await accessibility_problems(page) == []
        await page.get_by_label("API key").fill("wrong")
        await page.keyboard.press("Enter")
        await page.get_by_role("alert").wait_for()
        assert await accessibility_problems(page) == []
        await page.get_by_label("API key").fill(secret)
        await page.keyboard.press("Enter")
        await page.locator(f"#{batch_id}").wait_for()
        assert await page.evaluate("document.cookie") == ""
        another = await submitted(api, headers=key)
        await page.locator(f"#{another}").wait_for()
        assert secret not in await page.content()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").wait_for()


@contextlib.asynccontextmanager
async def a_reported_batch(folder: Path) -> AsyncIterator[str]:
    """The address of a batch with a report in which there is much to see."""
    models = [*["m"] * 60, *[LONG] * 10, f"fault-status-400;{NASTY}", "fault-delay-0.5"]
    async with (
        SimulatedGateway(SimulatorConfig.instant()) as gateway,
        serving(folder, gateway) as service,
    ):
        batch_id = await service.submit(lines_of(*models))
        await service.wait(batch_id)
        yield f"{service.http.base_url}/batches/{batch_id}"


@pytest.mark.parametrize("view", VIEWS)
async def test_axe_finds_nothing_in_a_report_and_nothing_sticks_out(
    browser: Any, tmp_path: Path, view: str
) -> None:
    async with (
        a_reported_batch(tmp_path) as url,
        a_tab(browser, bypass_csp=True, **VIEWS[view]) as page,
    ):
        await page.goto(f"{url}/report")
        opening = "for (const one of document.querySelectorAll('details')) one.open = true"
        await page.evaluate(opening)
        assert await accessibility_problems(page) == []
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= VIEWS[view]["viewport"]["width"]
        assert await page.title() != "owned"
        dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(16, 20, 27)") is (view == "dark")


async def test_a_report_is_opened_and_looks_as_it_is_meant_under_its_own_policy(
    browser: Any,
    tmp_path: Path,
) -> None:
    async with (
        a_reported_batch(tmp_path) as url,
        a_tab(browser) as page,
    ):
        await page.goto(url)
        await page.locator("#report").click()
        await page.wait_for_url("**/report")
        assert await page.locator("h1").inner_text() == "Done, 1 of 72 requests failed"
        assert await page.locator("svg").count() >= 3
        share = "getComputedStyle(document.querySelector('.share > span')).width"
        whole = "getComputedStyle(document.querySelector('.share')).width"
        ratio = f"parseFloat({share}) / parseFloat({whole})"
        assert await page.evaluate(ratio) == pytest.approx(71 / 72, abs=0.01)
        ticks = "[...document.querySelectorAll('.x > span')].map(e => e.style.cssText).join('')"
        assert await page.evaluate(ticks) == ""
        places = "new Set([...document.querySelectorAll('.x > span')].map(e => e.offsetLeft)).size"
        assert await page.evaluate(places) > 3
        await page.get_by_text("Back to the batch").click()
        await page.wait_for_url(url)
