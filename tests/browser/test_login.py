"""Logging in at the web page, and out."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from harness.browser import OpenPage, WebClient
from harness.client import Join, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess, StartGateway


@pytest.mark.parametrize("username", ["", "Not A Name", "taken"])
async def test_a_refused_name_is_shown_with_the_reason(
    gateway: GatewayProcess, join: Join, open_page: OpenPage, username: str
) -> None:
    """A missing, invalid or taken name brings an alert and leaves the focus where it is; another one then gets in."""
    if username == "taken":
        username = (await join("json")).username
    client = await open_page()
    await client.join(gateway.url, username)
    await expect(client.page.get_by_role("alert")).to_contain_text(
        f"'{username}' is taken" if username.isalnum() else "lower-case letter"
    )
    await expect(client.username).to_be_focused()
    await client.username.fill(fresh_name())
    await client.page.keyboard.press("Enter")
    await expect(client.connection).to_have_text("Online")


async def test_a_reserved_name_is_shown_with_the_time_left(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """After a lost connection others read that the name may be free later, and its holder gets it back."""
    own = await start_gateway(recovery_window=90)
    bob, client = await join("json", "bob", to=own), await open_page()
    await succeed(bob, "list-rooms")
    await bob.drop()
    await client.join(own.url, "bob")
    await expect(client.page.get_by_role("alert")).to_have_text(
        re.compile("'bob' is taken.* within (90|[78][0-9]) seconds")
    )
    await client.username.fill("alice")
    await client.button("Join").click()
    await expect(client.connection).to_have_text("Online")
    context = client.page.context
    await client.page.close()
    again = WebClient(await context.new_page())
    await again.page.goto(own.url)
    await expect(again.connection).to_have_text("Online")


async def test_the_page_says_when_the_gateway_is_full(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """It says that it is full, and lets in anyone who tries again once there is a place."""
    own = await start_gateway(max_connections=1)
    bob, client = await join("json", to=own), await open_page()
    await client.join(own.url, "alice")
    await expect(client.page.get_by_role("alert")).to_contain_text("The gateway is full")
    await bob.leave()
    await client.button("Join").click()
    await expect(client.connection).to_have_text("Online")


async def test_logging_out_frees_the_name(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """After "Log out" a reload asks for a name again, and anyone may take the one that was left."""
    client, name = await open_page(), fresh_name()
    await client.join(gateway.url, name)
    await client.button("Log out").click()
    await expect(client.username).to_be_focused()
    await client.page.reload()
    await expect(client.connection).to_have_text("Not connected")
    await join("json", name)


async def test_the_page_requests_nothing_from_other_hosts(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """No request leaves the origin, nothing breaks the Content-Security-Policy, and the console stays clean."""
    client = await open_page()
    await client.join(gateway.url, fresh_name())
    await client.create_room(fresh_name("room"))
    await client.send("to myself")
    await client.sees("to myself")
    await client.page.keyboard.press("Escape")
    assert {urlsplit(url).netloc for url in client.requests} == {urlsplit(gateway.url).netloc}
    assert client.problems == []
