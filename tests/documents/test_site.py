"""The site in a real browser: alone, light and dark, on a phone; its search and copy buttons."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.documents.site import built_site, served
from tests.peers.browser import accessibility_problems

pytestmark = [pytest.mark.anyio, pytest.mark.peer("browser")]

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
# What of a page is wider than a phone, where the page cannot be moved sideways to see it.
CUT_OFF = """() => [...document.querySelectorAll("article *")].filter(one => {
    for (let around = one; around.tagName != "ARTICLE"; around = around.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(around).overflowX)
            || around.matches(".headerlink, .md-clipboard, nav")) return false;
    return one.getBoundingClientRect().right > innerWidth + 1;
}).map(one => one.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_site(tmp_path_factory.mktemp("site"))


@contextlib.asynccontextmanager
async def a_tab(browser: Any, root: str, **how: Any) -> AsyncIterator[Any]:
    """A page whose context may ask for nothing outside of the site, and raises nothing."""
    context = await browser.new_context(**how)
    page = await context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and faults.append(said.text))
    yield page
    own = (f"{root}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
    assert faults == []
    await context.close()


def paths(site: Path) -> list[str]:
    found = [str(path.relative_to(site)) for path in site.rglob("*.html")]
    assert "running.html" in found
    # The server's own, whose paths begin at the top of a host.
    return [path for path in found if path != "404.html"]


async def test_no_page_asks_another_host_or_is_cut_off_on_a_phone(browser: Any, site: Path) -> None:
    async with a_tab(browser, site.as_uri(), **PHONE) as page:
        for path in paths(site):
            await page.goto(f"{site.as_uri()}/{path}")
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["viewport"]["width"], path
            assert await page.evaluate(CUT_OFF) == [], path


async def test_a_long_line_of_code_is_read_by_moving_its_block_alone(
    browser: Any, site: Path
) -> None:
    async with a_tab(browser, site.as_uri(), **PHONE) as page:
        await page.goto(f"{site.as_uri()}/running.html")
        code = page.locator("pre code").first
        assert await code.evaluate("one => one.scrollWidth > one.clientWidth")
        await code.evaluate("one => one.scrollTo(200, 0)")
        assert await code.evaluate("one => one.scrollLeft") == 200
        assert await page.evaluate("scrollX") == 0


async def becomes(page: Any, look: str) -> None:
    light = """getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)
        .every(one => Number(one) > 200)"""
    await page.wait_for_function(light if look == "light" else f"!({light})")


async def test_it_is_as_light_as_the_system_until_a_reader_chooses(
    browser: Any, site: Path
) -> None:
    async with a_tab(browser, site.as_uri(), color_scheme="dark") as page:
        await page.goto(f"{site.as_uri()}/index.html")
        await becomes(page, "dark")
        await page.emulate_media(color_scheme="light")
        await becomes(page, "light")
        await page.get_by_title("Switch to light").click()
        await page.emulate_media(color_scheme="dark")
        await becomes(page, "light")
        await page.get_by_title("Switch to dark").click()
        await becomes(page, "dark")
        await page.emulate_media(color_scheme="light")
        await page.goto(f"{site.as_uri()}/running.html")
        await becomes(page, "dark")


@pytest.mark.parametrize("look", ["light", "dark"])
async def test_axe_finds_nothing(browser: Any, site: Path, look: str) -> None:
    # The theme puts each copy button into a `nav` without a name.
    theirs = {"landmark-unique"}
    # From a server, since axe asks for the style sheets once more.
    with served(site) as root:
        async with a_tab(browser, root, color_scheme=look) as page:
            for path in ("index.html", "reference/settings.html"):
                await page.goto(f"{root}/{path}")
                await becomes(page, look)
                found = await accessibility_problems(page)
                assert [one for one in found if one[0] not in theirs] == [], path


async def test_a_button_copies_a_command(browser: Any, site: Path) -> None:
    with served(site) as root:
        async with a_tab(browser, root, permissions=["clipboard-read", "clipboard-write"]) as page:
            await page.goto(f"{root}/running.html")
            block = page.locator("div.highlight", has_text="batch-gateway validate").first
            await block.hover()
            await block.get_by_role("button").click()
            await page.get_by_text("Copied to clipboard").wait_for()
            copied = await page.evaluate("navigator.clipboard.readText()")
            assert copied.strip() == "batch-gateway validate requests.jsonl"


@pytest.mark.parametrize("opened", ["from a folder", "from a server"])
async def test_search_finds_a_page_by_a_word_on_it(browser: Any, site: Path, opened: str) -> None:
    with contextlib.ExitStack() as stack:
        is_served = opened == "from a server"
        root = stack.enter_context(served(site)) if is_served else site.as_uri()
        async with a_tab(browser, root) as page:
            # What there is to find is loaded behind the page.
            await page.goto(f"{root}/index.html", wait_until="networkidle")
            await page.keyboard.press("Control+k")
            await page.get_by_role("combobox", name="Search").fill("Retry-After")
            await page.get_by_role("option", name="What a gateway does, and what").click()
            await page.wait_for_url(f"{root}/errors.html*")
            assert "Retry-After" in await page.locator("article").inner_text()
