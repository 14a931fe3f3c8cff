"""A real Chromium, driven by Playwright, and axe to look at what it shows."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.peers.installing import peer_environment

__all__ = ["accessibility_problems", "browser"]

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Any]:
    """Playwright's `Browser`; skips, or in CI fails, where there is no Chromium."""
    # One loop has one pool of threads, which stays as long as it.
    await asyncio.to_thread(int)
    if _CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "chromium is not installed"
        )
    python = peer_environment("browser", ["playwright==1.65.2", "axe-playwright-python==0.1.8"])
    [packages] = map(str, python.parent.parent.glob("lib/python*/site-packages"))
    if packages not in sys.path:
        # Behind the project's own, which win.
        sys.path.append(packages)
    playwright = importlib.import_module("playwright.async_api")
    async with playwright.async_playwright() as driver:
        running = await driver.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield running
        finally:
            await running.close()


async def accessibility_problems(page: Any) -> list[tuple[str, list[str]]]:
    """What axe finds on a page of a context that bypasses the policy on scripts."""
    axe = importlib.import_module("axe_playwright_python.async_playwright")
    found = (await axe.Axe().run(page)).response["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
