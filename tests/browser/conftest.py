"""One browser for each test process; a profile of its own for each user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright, expect

from harness.browser import OpenPage, WebClient, launch
from harness.inbox import TIMEOUT


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=TIMEOUT * 1000)
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens the page for one user, in a browser profile of its own. Options are those of a Playwright context.

    When the test is over, no page may have logged an error.
    """
    clients: list[WebClient] = []

    async def open_one(*, width: int = 1280, height: int = 720, **options: Any) -> WebClient:
        context = await browser.new_context(viewport={"width": width, "height": height}, locale="en-GB", **options)
        context.set_default_timeout(TIMEOUT * 1000)
        clients.append(WebClient(await context.new_page()))
        return clients[-1]

    yield open_one
    for client in clients:
        await client.page.context.close()
    assert [mistake for client in clients for mistake in client.mistakes] == []
