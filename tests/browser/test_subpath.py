"""The page under a path of a site that has others, as a reverse proxy puts it there."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from harness.client import Join
from harness.names import fresh_name
from harness.process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness.browser import OpenPage


class Proxy:
    """Serves what a gateway serves at ``/`` under ``/chat/``, and nothing else; one request a connection."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._site = urlsplit(gateway.url)
        self._server: asyncio.Server
        self.url: str
        self.takes_websockets = True
        self.strays: list[str] = []
        """What was asked for outside of its path."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/chat/"

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            method, path, version = request.split()
            if not path.startswith(b"/chat/"):
                self.strays.append(path.decode())
            elif self.takes_websockets or b"websocket" not in path:
                head = re.sub(rb"(?im)^(connection: )keep-alive", rb"\1close", head)
                up_reader, up_writer = await asyncio.open_connection(self._site.hostname, self._site.port)
                up_writer.write(b" ".join((method, path.removeprefix(b"/chat"), version)) + b"\r\n" + head)
                await asyncio.gather(self._pass_on(reader, up_writer), self._pass_on(up_reader, writer))
                return
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def proxy(gateway: GatewayProcess) -> AsyncIterator[Proxy]:
    proxy = Proxy(gateway)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_everything_stays_under_the_path(proxy: Proxy, join: Join, open_page: OpenPage, transport: str) -> None:
    """Files, the connection, the address of a room and a reload."""
    client, bob, room = await open_page(), await join(), fresh_name("room")
    proxy.takes_websockets = transport == "websocket"
    await client.join(proxy.url, fresh_name())
    await client.create_room(room, bob.username)
    await expect(client.page).to_have_url(f"{proxy.url}#{room}")
    await client.send("from under the path")
    assert (await bob.next_event("message")).fields["content"] == "from under the path"
    await client.page.reload()
    await client.sees("from under the path")
    await client.page.go_back()
    await expect(client.page).to_have_url(proxy.url)
    await expect(client.connection).to_have_text("Online")
    assert proxy.strays == []
