"""Takes the pictures in docs/screenshots/ again: `.venv/bin/pytest -n0 tests/browser/screenshots.py`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from harness.browser import OpenPage, WebClient
from harness.client import Join, succeed
from harness.process import StartGateway, stable_port

PICTURES = Path(__file__).parents[2] / "docs" / "screenshots"
ROOM = "Garden party"
SAID = [
    ("bob", "Shall we do it on Saturday? The forecast looks good: https://weather.example/saturday"),
    ("bob", "I can bring the long table."),
    ("alice", "Saturday is perfect!"),
    ("alice", "I bring\n- lemonade\n- the good bread\n- candles"),
    ("carol", "مرحبا! سأحضر السلطة والحلوى."),
    ("dana", "Count me in. Is there a room for the planning, or do we just talk here?"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_take(start_gateway: StartGateway, join: Join, open_page: OpenPage, scheme: str) -> None:
    """The main states, on a wide and on a narrow screen."""
    own = await start_gateway(on_disk=True, port=stable_port())
    people: dict[str, Any] = {name: await join("json", name, to=own) for name in ("bob", "carol", "dana", "emre")}
    client = await open_page(width=1280, height=760, color_scheme=scheme, reduced_motion="reduce")

    await client.page.goto(own.url)
    await client.username.fill("alice")
    await take(client, f"login-{scheme}")
    await client.button("Join").click()
    await client.create_room(ROOM, "bob", "carol", "dana")
    for name, content in SAID:
        if name == "alice":
            await client.send(content)
            await expect(client.log.get_by_role("article").last.locator("time")).to_be_attached()
        else:
            await succeed(people[name], "send-msg", room=ROOM, content=content)
            await expect(client.log.get_by_role("article").last).to_contain_text(name)
    await succeed(people["emre"], "create-room", room="Bicycles", users=["alice", "bob"])
    await succeed(people["bob"], "create-room", room="Book club", users=["alice"])
    question = "Has anybody finished chapter three? I have questions…"
    await succeed(people["bob"], "send-msg", room="Book club", content=question)
    direct = (await succeed(people["carol"], "open-direct", user="alice"))["room"]
    await succeed(people["carol"], "send-msg", room=direct, content="Did you see the lights last night?")
    await expect(client.row("carol")).to_contain_text("lights")
    await succeed(people["dana"], "typing", room=ROOM)
    await client.page.get_by_text("dana is typing").wait_for()
    await take(client, f"room-{scheme}")

    await client.button("New room").click()
    await client.dialog.get_by_role("textbox", name="Room name").fill("Planning")
    await client.dialog.get_by_role("combobox", name="Add people").fill("bob")
    await client.dialog.get_by_role("option", name="bob").click()
    await client.dialog.get_by_role("combobox", name="Add people").press("ArrowDown")
    await client.dialog.get_by_role("option", name="carol").wait_for()
    await take(client, f"new-room-{scheme}")
    await client.page.keyboard.press("Escape")
    await client.page.keyboard.press("Escape")

    await client.page.set_viewport_size({"width": 320, "height": 600})
    await client.message(SAID[-1][1]).wait_for()
    await take(client, f"narrow-room-{scheme}", scale=2)
    await client.button("Back to rooms").click()
    await take(client, f"narrow-rooms-{scheme}", scale=2)
    await client.open_room(ROOM)
    await own.kill9()
    await expect(client.connection).to_contain_text("Reconnecting")
    await client.send("On my way to the shop, anything else?")
    await take(client, f"narrow-reconnecting-{scheme}", scale=2)


async def take(client: WebClient, name: str, scale: int = 1) -> None:
    """As WebP, which Playwright does not write; when what changed last is drawn."""
    await client.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    devtools = await client.page.context.new_cdp_session(client.page)
    size = client.page.viewport_size
    assert size is not None
    clip = {"x": 0, "y": 0, **size, "scale": scale}
    options = {"format": "webp", "quality": 80, "clip": clip, "captureBeyondViewport": False}
    picture = await devtools.send("Page.captureScreenshot", options)
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.webp").write_bytes(base64.b64decode(picture["data"]))
