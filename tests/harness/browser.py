"""A real Chromium: one on PATH, one that the environment variable CHROMIUM names, or one from npm."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from harness.node import find_node, install_packages

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Playwright

NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
UNPACK = 'import chromium from "@sparticuz/chromium"; console.log(JSON.stringify(await chromium.executablePath()));'


def find_chromium() -> str:
    """The executable. The one from npm comes compressed and is unpacked once, into the folder of the packages."""
    chosen = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if chosen is not None:
        return chosen
    modules = install_packages()
    with (modules / "chromium.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        unpacked = subprocess.run(
            [find_node(), "--input-type=module", "--eval", UNPACK],
            cwd=modules,
            env={**os.environ, "TMPDIR": str(modules)},
            capture_output=True,
            text=True,
            check=True,
        )
    executable = Path(json.loads(unpacked.stdout))
    assert executable.is_file(), unpacked.stdout + unpacked.stderr
    return str(executable)


async def launch(playwright: Playwright) -> Browser:
    return await playwright.chromium.launch(executable_path=find_chromium(), args=SWITCHES)


class WebClient:
    """One user at the web page, who finds things by the names that everybody can see."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.requests.append(request.url))
        self.requests: list[str] = []

    async def join(self, url: str, username: str) -> None:
        await self.page.goto(url)
        await self.page.get_by_role("textbox", name="Username").fill(username)
        await self.page.get_by_role("button", name="Join").click()

    async def create_room(self, room: str, *people: str) -> None:
        await self.page.get_by_role("button", name="New room").click()
        dialog = self.page.get_by_role("dialog", name="New room")
        await dialog.get_by_role("textbox", name="Room name").fill(room)
        for name in people:
            await dialog.get_by_role("combobox", name="Add people").fill(name)
            await dialog.get_by_role("option", name=name, exact=True).click()
        await dialog.get_by_role("button", name="Create").click()

    async def open_room(self, room: str) -> None:
        await self.page.get_by_role("navigation", name="Rooms").get_by_text(room, exact=True).click()

    async def add_people(self, *people: str) -> None:
        await self.page.get_by_role("button", name="Add people").click()
        dialog = self.page.get_by_role("dialog")
        for name in people:
            await dialog.get_by_role("combobox", name="Add people").fill(name)
            await dialog.get_by_role("option", name=name, exact=True).click()
        await dialog.get_by_role("button", name="Add", exact=True).click()

    async def say(self, text: str) -> None:
        await self.page.get_by_role("textbox", name="Message").fill(text)
        await self.page.get_by_role("button", name="Send").click()

    async def sees(self, text: str) -> None:
        """Wait until a message shows."""
        await self.page.get_by_role("log", name="Messages").get_by_text(text, exact=True).wait_for()
