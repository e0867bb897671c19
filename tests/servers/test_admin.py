"""``sio.instrument()``: the Socket.IO Admin UI receives what happens, and nothing is kept where there is no admin."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import socketio

from gateway.servers import SocketServer
from gateway.servers.socketio.adminqueue import MAX_REPORTS
from harness.inbox import TIMEOUT
from harness.waiting import until
from servers.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADMIN = "/admin"
INTERVAL = 0.05
"""Seconds between two reports."""


@asynccontextmanager
async def instrumented(*, past_aiohttp: bool = False, **options: Any) -> AsyncIterator[tuple[str, SocketServer, Any]]:
    """URL, server, and what instruments it."""
    server = SocketServer(socketio.AsyncManager())

    @server.event
    async def enter(sid: str, room: str) -> None:
        await server.enter_room(sid, room)

    @server.event
    async def leave(sid: str, room: str) -> None:
        await server.leave_room(sid, room)

    admin = server.instrument(auth=False, server_stats_interval=INTERVAL, **options)
    async with serving(server, "socket.io", past_aiohttp=past_aiohttp) as url:
        yield url.removesuffix("/socket.io/"), server, admin
    await admin.shutdown()


class Observed:
    """A client, and what the Admin UI would receive."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.reports: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.sio.on("*", lambda name, *args: self.reports.put_nowait((name, args)), namespace=ADMIN)

    async def next(self, name: str) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while True:
                found, args = await self.reports.get()
                if found == name:
                    return args

    async def __aenter__(self) -> Observed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sio.disconnect()
        await self.sio.shutdown()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("past_aiohttp", [False, True])
async def test_an_admin_receives_what_happens(transport: str, past_aiohttp: bool) -> None:
    """Statistics, who connects and goes, what is sent, and who joins and leaves which room."""
    async with instrumented(past_aiohttp=past_aiohttp) as (url, _, _), Observed() as admin, Observed() as user:
        await admin.sio.connect(url, namespaces=[ADMIN], transports=[transport])
        assert (await admin.next("config"))[0]["supportedFeatures"]
        stats = (await admin.next("server_stats"))[0]
        assert stats["clientsCount"] == 1
        await user.sio.connect(url, namespaces=["/"], transports=[transport])
        assert (await admin.next("socket_connected"))[0]["transport"] == transport
        sid = user.sio.get_sid("/")
        await user.sio.emit("enter", "r")
        assert (await admin.next("event_received"))[:3] == ("/", sid, ["enter", "r"])
        while (joined := (await admin.next("room_joined"))[:3])[1] != "r":
            pass
        assert joined == ("/", "r", sid)
        await user.sio.emit("leave", "r")
        assert (await admin.next("room_left"))[:3] == ("/", "r", sid)
        await user.sio.disconnect()
        assert (await admin.next("socket_disconnected"))[:2] == ("/", sid)
        stats = (await admin.next("server_stats"))[0]
        assert {namespace["name"] for namespace in stats["namespaces"]} == {"/", ADMIN}


async def test_production_mode_sends_statistics() -> None:
    async with instrumented(mode="production") as (url, _, instruments), Observed() as admin:
        await admin.sio.connect(url, namespaces=[ADMIN], transports=["websocket"])
        stats = (await admin.next("server_stats"))[0]
        assert stats["clientsCount"] == 1
        assert instruments.admin_queue == []


async def test_an_unauthorized_admin_is_refused() -> None:
    """The handler of a namespace may refuse, as for any other."""
    server = SocketServer(socketio.AsyncManager())
    server.instrument(auth={"username": "admin", "password": "x"}, server_stats_interval=INTERVAL)
    async with serving(server, "socket.io") as url, Observed() as admin:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await admin.sio.connect(url.removesuffix("/socket.io/"), namespaces=[ADMIN], transports=["websocket"])


async def test_the_queue_is_emptied_where_there_is_no_admin() -> None:
    async with instrumented() as (url, _, instruments), Observed() as user:
        await user.sio.connect(url, namespaces=["/"], transports=["websocket"])
        for number in range(100):
            await user.sio.call("enter", f"room {number}", timeout=TIMEOUT)
        await until(lambda: not instruments.admin_queue)


async def test_the_queue_is_bounded_before_the_first_client() -> None:
    """A client from before the application was instrumented joins and leaves rooms, and nobody reads the reports."""
    server = SocketServer(socketio.AsyncManager())
    async with serving(server, "socket.io") as url, Observed() as user:
        await user.sio.connect(url.removesuffix("/socket.io/"), namespaces=["/"], transports=["websocket"])
        admin = server.instrument(auth=False)
        sid = server.manager.sid_from_eio_sid(next(iter(server.eio.sockets)), "/")
        for number in range(MAX_REPORTS + 10):
            await server.enter_room(sid, f"room {number}")
            await server.leave_room(sid, f"room {number}")
        assert len(admin.admin_queue) == MAX_REPORTS
        assert admin.admin_queue[-1][1][1] == f"room {MAX_REPORTS + 9}"
