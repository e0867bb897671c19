"""The smallest server on a `WebSocketStream`: it sends back what it receives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from gateway.servers.websocket.handshake import Handshake
from gateway.servers.websocket.rfc6455 import Message, frame
from gateway.servers.websocket.stream import WebSocketStream

MAX_SIZE = 2**24
"""The longest message of the Autobahn cases."""


class Echo:
    """A `Listener`."""

    def __init__(self) -> None:
        self.stream = WebSocketStream(self, max_size=MAX_SIZE)
        self.pongs = 0
        self.ended: int | None = None

    def message_received(self, message: Message) -> None:
        self.stream.write(frame(message.opcode, message.data))

    def pong_received(self) -> None:
        self.pongs += 1

    def stream_ended(self, code: int) -> None:
        self.ended = code


def handle_with(echoes: list[Echo]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler that gives every WebSocket to an `Echo`, and keeps those in ``echoes``."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            handshake = Handshake(request)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        echoes.append(Echo())
        return handshake.accept(echoes[-1].stream)

    return handle


class EchoServer:
    """Serves an `Echo` to everybody, on a free port."""

    def __init__(self) -> None:
        self.address = ""
        self.echoes: list[Echo] = []
        app = web.Application()
        app.router.add_get("/", handle_with(self.echoes))
        self.runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Self:
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for echo in self.echoes:
            echo.stream.abort()
        await self.runner.cleanup()
