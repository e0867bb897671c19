"""A real Chromium: one on PATH, one that the environment variable CHROMIUM names, or one from npm."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.node import find_node, install_packages

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page, Playwright, WebSocketRoute

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


class OpenPage(Protocol):
    """Opens the page for one user. ``options`` are those of a Playwright context."""

    async def __call__(self, *, width: int = 1280, height: int = 720, **options: Any) -> WebClient: ...


class HeldConnection:
    """The connection of a page, on which frames of the gateway can be held back for a while."""

    def __init__(self) -> None:
        self._held: list[tuple[WebSocketRoute, str | bytes]] | None = None

    async def carry(self, page: Page) -> None:
        """Carry all connections that the page opens from now on."""
        await page.route_web_socket(lambda _url: True, self._connect)

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for route, message in held:
            route.send(message)

    def _connect(self, route: WebSocketRoute) -> None:
        def receive(message: str | bytes) -> None:
            if self._held is None:
                route.send(message)
            else:
                self._held.append((route, message))

        route.connect_to_server().on_message(receive)


class WebClient:
    """One user at the web page, who finds things by the names that everybody can see."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.requests.append(request.url))

    @property
    def mistakes(self) -> list[str]:
        """The problems that no lost connection explains."""
        return [text for text in self.problems if "page error" in text or "Content Security Policy" in text]

    # --- what is there

    @property
    def username(self) -> Locator:
        return self.page.get_by_role("textbox", name="Username")

    @property
    def connection(self) -> Locator:
        return self.page.get_by_role("status", name="Connection")

    @property
    def rooms(self) -> Locator:
        return self.page.get_by_role("navigation", name="Rooms")

    def room(self, room: str) -> Locator:
        return self.rooms.get_by_role("link", name=room, exact=True)

    def row(self, room: str) -> Locator:
        """Everything that the list shows of a room."""
        return self.rooms.get_by_role("listitem").filter(has=self.page.get_by_role("link", name=room, exact=True))

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log", name="Messages")

    def message(self, text: str) -> Locator:
        """A message with everything that is shown of it."""
        return self.log.get_by_role("article").filter(has=self.page.get_by_text(text, exact=True))

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    # --- what a user does

    async def join(self, url: str, username: str) -> None:
        await self.page.goto(url)
        await self.username.fill(username)
        await self.button("Join").click()

    async def create_room(self, room: str, *people: str) -> None:
        await self.button("New room").click()
        dialog = self.page.get_by_role("dialog", name="New room")
        await dialog.get_by_role("textbox", name="Room name").fill(room)
        await self._pick(people)
        await dialog.get_by_role("button", name="Create").click()
        await dialog.wait_for(state="detached")
        await self.is_in(room or people[0])

    async def open_room(self, room: str) -> None:
        await self.room(room).click()
        await self.is_in(room)

    async def is_in(self, room: str) -> None:
        """Wait until this room is the open one: the one before it has a box and a log, too."""
        await self.page.get_by_role("heading", level=2, name=room, exact=True).wait_for()
        await self.box.wait_for()

    async def add_people(self, *people: str) -> None:
        await self.button("Add people").click()
        await self._pick(people)
        await self.dialog.get_by_role("button", name="Add", exact=True).click()
        await self.dialog.wait_for(state="detached")

    async def _pick(self, people: tuple[str, ...]) -> None:
        for name in people:
            await self.dialog.get_by_role("combobox", name="Add people").fill(name)
            await self.dialog.get_by_role("option", name=name, exact=True).click()

    async def send(self, text: str) -> None:
        await self.box.fill(text)
        await self.button("Send").click()

    async def sees(self, text: str) -> None:
        """Wait until a message shows."""
        await self.log.get_by_text(text, exact=True).wait_for()

    # --- what a tool sees

    async def is_wider_than_the_screen(self) -> bool:
        return bool(
            await self.page.evaluate(
                "[document.documentElement, ...document.querySelectorAll('[role=log], nav, dialog[open] form')]"
                ".some((element) => element.scrollWidth > element.clientWidth)"
            )
        )

    async def check_accessibility(self) -> None:
        """axe finds no violation in the page as it is now. Scripts that the test brings are not bound by the CSP."""
        if not await self.page.evaluate("'axe' in window"):
            axe = install_packages() / "node_modules" / "axe-core" / "axe.min.js"
            await self.page.evaluate(axe.read_text(encoding="utf-8"))
        violations = await self.page.evaluate("axe.run().then((results) => results.violations)")
        assert [
            (violation["id"], violation["help"], [node["html"][:300] for node in violation["nodes"]])
            for violation in violations
        ] == []
