"""Servers of the wire layer in the test's own process, for tests of the protocols rather than of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio
from aiohttp import web
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.servers import EngineServer, SocketServer
from gateway.servers.http.upgrades import Upgrades
from harness.waiting import until

OPTIONS: dict[str, Any] = {"ping_interval": 0.3, "ping_timeout": 0.2, "max_http_buffer_size": 1000}


@asynccontextmanager
async def serving(
    server: EngineServer | SocketServer,
    path: str,
    *,
    past_aiohttp: bool = False,
    address: tuple[str, int] = ("127.0.0.1", 0),
    **options: Any,
) -> AsyncIterator[str]:
    """The URL of a server under ``path``. ``past_aiohttp``: it takes handshakes before aiohttp does. ``address``: where
    it listens. ``options``: those of aiohttp's runner.
    """
    app = web.Application()
    server.attach(app, path)
    runner = web.AppRunner(app, **{"access_log": None, "shutdown_timeout": 0.1, **options})
    await runner.setup()
    assert runner.server is not None
    engine: EngineServer = getattr(server, "eio", server)
    upgrades = Upgrades(runner.server, [engine.take_handshake], timeout=5.0)
    protocols = upgrades if past_aiohttp else runner.server
    listening = await asyncio.get_running_loop().create_server(protocols, *address)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/{path}/"
    finally:
        await server.shutdown()
        listening.close()
        upgrades.close()
        await runner.cleanup()


async def closed(socket: ClientConnection) -> bool:
    """Wait until the server has closed the connection."""
    async with asyncio.timeout(5):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed:
            return True


async def polled(server: EngineServer) -> None:
    """Wait until the only client has a pending poll."""
    (socket,) = server.sockets.values()
    await until(lambda: socket.polling is not None and socket.polling.is_polled)


def echo_server(**options: Any) -> EngineServer:
    """An Engine.IO server that sends every message back, and remembers why its clients disconnected."""
    server = EngineServer(**{**OPTIONS, **options})
    server.reasons = []

    @server.on("message")
    async def on_message(sid: str, data: Any) -> None:
        await server.send(sid, data)

    @server.on("disconnect")
    async def on_disconnect(sid: str, reason: str) -> None:
        server.reasons.append(reason)

    return server


def namespaces_server(**options: Any) -> SocketServer:
    """A Socket.IO server with the namespaces / and /custom: ``auth`` at connect, ``message`` back, and acks."""
    server = SocketServer(socketio.AsyncManager(), **{**OPTIONS, **options})
    server.handled = []
    for namespace in ("/", "/custom"):

        @server.on("connect", namespace=namespace)
        async def on_connect(sid: str, environ: Any, auth: Any, namespace: str = namespace) -> None:
            await server.emit("auth", auth or {}, to=sid, namespace=namespace)

        @server.on("disconnect", namespace=namespace)
        async def on_disconnect(sid: str, reason: str, namespace: str = namespace) -> None:
            server.handled.append(("disconnect", namespace, reason))

        @server.on("message", namespace=namespace)
        async def on_message(sid: str, *arguments: Any, namespace: str = namespace) -> None:
            await server.emit("message-back", arguments, to=sid, namespace=namespace)

        @server.on("ask", namespace=namespace)
        async def on_ask(sid: str, *arguments: Any) -> Any:
            return arguments

        @server.on("*", namespace=namespace)
        async def on_anything(event: str, sid: str, *arguments: Any) -> None:
            server.handled.append((event, *arguments))

    return server
