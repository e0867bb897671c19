"""A python-socketio application that knows nothing of the gateway, and a server for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import socketio
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Log = asyncio.Queue[tuple[Any, ...]]


def add_decorated(sio: socketio.AsyncServer, log: Log) -> None:
    """Handlers of the namespace `/`: functions of every kind that python-socketio's documentation shows."""

    @sio.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        if auth == {"token": "wrong"}:
            raise socketio.exceptions.ConnectionRefusedError("authentication failed", "because")
        await sio.save_session(sid, {"token": auth and auth["token"], "path": environ["PATH_INFO"]})
        await sio.emit("hello", auth, to=sid)

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        session = await sio.get_session(sid)
        log.put_nowait(("disconnect", session["token"], reason))

    @sio.event
    async def echo(sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    @sio.on("plain function")
    def plain(sid: str, value: int) -> int:
        return value + 1

    @sio.event
    async def nothing(sid: str) -> None: ...

    @sio.event
    async def remember(sid: str, value: Any) -> Any:
        async with sio.session(sid) as session:
            before = session.get("value")
            session["value"] = value
        return before

    @sio.event
    async def transport(sid: str) -> str:
        return str(sio.transport(sid))

    @sio.on("*")
    async def catch_all(event: str, sid: str, *args: Any) -> list[Any]:
        return ["caught", event, *args]


def add_calls(sio: socketio.AsyncServer, log: Log) -> None:
    """Handlers that call the client."""

    @sio.event
    async def ask_back(sid: str, question: Any) -> Any:
        return {"answer": list(await sio.call("question", question, to=sid, timeout=5))}

    @sio.event
    async def ask_silently(sid: str) -> str:
        try:
            await sio.call("no answer", to=sid, timeout=0.05)
        except socketio.exceptions.TimeoutError:
            return "timeout"
        return "answered"

    @sio.event
    async def with_callback(sid: str, value: Any) -> None:
        await sio.emit("question", value, to=sid, callback=lambda *answer: log.put_nowait(("callback", *answer)))

    @sio.event
    async def with_coroutine_callback(sid: str, value: Any) -> None:
        async def answered(*answer: Any) -> None:
            await asyncio.sleep(0)
            log.put_nowait(("coroutine", *answer))

        await sio.emit("question", value, to=sid, callback=answered)


def add_rooms(sio: socketio.AsyncServer) -> None:
    """Handlers that move clients between rooms, and some odd ones."""

    @sio.event
    async def enter(sid: str, room: str) -> list[str]:
        await sio.enter_room(sid, room)
        return sorted(set(sio.rooms(sid)) - {sid})

    @sio.event
    async def leave(sid: str, room: str) -> None:
        await sio.leave_room(sid, room)

    @sio.event
    async def close(sid: str, room: str) -> None:
        await sio.close_room(room)

    @sio.event
    async def say(sid: str, room: str, *words: Any) -> None:
        await sio.emit("said", words, room=room, skip_sid=sid)

    @sio.event
    async def throw_out(sid: str) -> None:
        await sio.disconnect(sid)

    @sio.event
    async def fail(sid: str) -> None:
        raise RuntimeError("a handler's own mistake")

    @sio.event
    async def shapes(sid: str) -> Any:
        return {1: "a number as a name", "big": 2**70, "tuple": (1, 2)}


def add_old(sio: socketio.AsyncServer, log: Log) -> None:
    """Handlers of `/old`, with the parameters of earlier versions, and none that are coroutines."""

    @sio.on("connect", namespace="/old")
    def connect(sid: str, environ: dict[str, Any]) -> bool:
        return "refuse" not in environ["QUERY_STRING"]

    @sio.on("disconnect", namespace="/old")
    def disconnect(sid: str) -> None:
        log.put_nowait(("old", "disconnect"))


class Rooms(socketio.AsyncNamespace):  # type: ignore[misc]
    """`/class`."""

    def __init__(self, log: Log) -> None:
        super().__init__("/class")
        self._log = log

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        await self.enter_room(sid, "all")

    async def on_disconnect(self, sid: str, reason: str) -> None:
        self._log.put_nowait(("class", reason))

    async def on_shout(self, sid: str, word: str) -> str:
        await self.emit("shouted", word.upper(), room="all")
        return "done"

    async def on_ask(self, sid: str) -> Any:
        return await self.call("question", "class", to=sid)


@asynccontextmanager
async def serve(sio: socketio.AsyncServer, log: Log) -> AsyncIterator[str]:
    """Serve the application; its URL."""
    add_decorated(sio, log)
    add_calls(sio, log)
    add_rooms(sio)
    add_old(sio, log)
    sio.register_namespace(Rooms(log))
    async with serve_alone(sio) as url:
        yield url


@asynccontextmanager
async def serve_alone(sio: socketio.AsyncServer) -> AsyncIterator[str]:
    """Serve a server as it is; its URL."""
    app = web.Application()
    sio.attach(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
