"""Several tabs of one browser: a session is in one of them, and is not lost with it."""

from __future__ import annotations

from playwright.async_api import expect

from harness.browser import OpenPage, WebClient
from harness.client import Join, succeed
from harness.names import fresh_name
from harness.process import GatewayProcess, StartGateway

NO_LOCKS = "delete Navigator.prototype.locks"  # as on a plain http:// page


async def another_tab(client: WebClient, url: str) -> WebClient:
    """A tab that is newly opened in the same browser, as by typing the address."""
    tab = WebClient(await client.page.context.new_page())
    await tab.page.goto(url)
    return tab


async def test_a_new_tab_continues_the_session(gateway: GatewayProcess, join: Join, open_page: OpenPage) -> None:
    """Where no other tab is in the session any more. Nobody is told that it left; its room,
    draft and what came meanwhile are there.
    """
    client, bob, alice = await open_page(), await join(), fresh_name()
    await client.join(gateway.url, alice)
    room, other = fresh_name("room"), fresh_name("other")
    await client.create_room(other, bob.username)
    await client.create_room(room, bob.username)
    await client.box.fill("half a")
    context = client.page.context
    await client.page.close()
    while (presence := await bob.next_event("presence")).fields["online"]:
        pass
    assert presence.fields["username"] == alice
    await succeed(bob, "send-msg", room=other, content="are you there?")
    again = WebClient(await context.new_page())
    await again.page.goto(gateway.url)
    await expect(again.connection).to_have_text("Online")
    await again.is_in(room)
    await expect(again.box).to_have_value("half a")
    await expect(again.row(other)).to_contain_text("1 unread")
    await again.send("I am back")
    assert (await bob.next_event("message")).fields["content"] == "I am back"
    assert {event.name for event in await bob.drain()} <= {"presence", "typing", "room-joined"}
    assert again.mistakes == []


async def test_only_one_tab_has_the_session_at_a_time(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """While it is, a new tab begins with the form and can have a session of its own; a third goes on with
    the session that was left last.
    """
    client, alice, carol = await open_page(), fresh_name(), fresh_name()
    await client.join(gateway.url, alice)
    await client.create_room(room := fresh_name("room"))
    tab = await another_tab(client, gateway.url)
    await expect(tab.username).to_be_focused()
    await tab.join(gateway.url, alice)
    await expect(tab.page.get_by_role("alert")).to_contain_text(f"'{alice}' is taken")
    await tab.username.fill(carol)
    await tab.button("Join").click()
    await tab.create_room(other := fresh_name("other"))
    await client.page.reload()
    await client.is_in(room)
    await tab.page.reload()
    await tab.is_in(other)
    await tab.page.close()
    third = await another_tab(client, gateway.url)
    await third.is_in(other)
    await expect(client.connection).to_have_text("Online")


async def test_a_tab_opened_after_the_session_ended_asks_for_a_name(
    start_gateway: StartGateway, join: Join, open_page: OpenPage
) -> None:
    """It says what became of the session, and logs nobody in by itself: the name stays free."""
    own = await start_gateway(recovery_window=1)
    client, bob = await open_page(), await join("json", to=own)
    await client.join(own.url, "alice")
    await client.create_room("tea", bob.username)
    context = client.page.context
    await client.page.close()
    await bob.next_event("user-left")
    again = WebClient(await context.new_page())
    await again.page.goto(own.url)
    await expect(again.page.get_by_role("alert")).to_contain_text("Your session ended while you were away.")
    await expect(again.username).to_have_value("alice")
    alice = await join("json", "alice", to=own)
    await alice.leave()
    await again.button("Join").click()
    await expect(again.connection).to_have_text("Online")
    await expect(again.rooms).to_contain_text("You are not in any room yet.")


async def test_no_tab_continues_after_logging_out(gateway: GatewayProcess, open_page: OpenPage) -> None:
    client = await open_page()
    await client.join(gateway.url, fresh_name())
    await client.button("Log out").click()
    await expect(client.username).to_be_focused()
    tab = await another_tab(client, gateway.url)
    await expect(tab.username).to_be_focused()
    await expect(tab.page.get_by_role("alert")).to_have_count(0)


async def test_a_browser_is_not_locked_out_of_its_own_name(gateway: GatewayProcess, open_page: OpenPage) -> None:
    """A page that cannot know whether another tab is open begins with the form; the name then resumes its session."""
    client = await open_page()
    await client.page.context.add_init_script(NO_LOCKS)
    alice, room = fresh_name(), fresh_name("room")
    await client.join(gateway.url, alice)
    await client.create_room(room)
    context = client.page.context
    await client.page.close()
    again = WebClient(await context.new_page())
    await again.join(gateway.url, alice)
    await again.is_in(room)
    await expect(again.connection).to_have_text("Online")


async def test_a_duplicated_tab_takes_the_session_over(
    gateway: GatewayProcess, join: Join, open_page: OpenPage
) -> None:
    """The browser copies what the tab keeps: one of the two is connected, the other says so and can take it back."""
    client, bob = await open_page(), await join()
    await client.join(gateway.url, fresh_name())
    room = fresh_name("room")
    await client.create_room(room, bob.username)
    await client.box.fill("half a")
    async with client.page.expect_popup() as popup:
        await client.page.evaluate("void window.open(location.href)")
    double = WebClient(await popup.value)
    await expect(double.box).to_have_value("half a")
    await expect(client.connection).to_have_text("Taken over elsewhere")
    await client.page.reload()
    await expect(client.connection).to_have_text("Taken over elsewhere")
    await expect(double.connection).to_have_text("Online")
    await client.button("Use it here").click()
    await expect(client.box).to_have_value("half a")
    await expect(double.connection).to_have_text("Taken over elsewhere")
    await client.send("it is me again")
    assert (await bob.next_event("message")).fields["content"] == "it is me again"
    assert {event.name for event in await bob.drain()} <= {"presence", "typing", "room-joined"}
