"""The server under attack, in a process of its own, which counts what tests cannot see from outside.

    python target.py gateway [the options of the command]
    python target.py ours|stock --host H --port N

``gateway`` is the command as it is. The other two are one small chat application: on `SocketServer`, and on
python-socketio's own server with aiohttp's WebSockets for the plain wire. For each line on stdin it writes a JSON
object to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import socketio
import uvloop
from aiohttp import WSMsgType, web

from gateway import cli
from gateway.app import Gateway
from gateway.commands import serve as command
from gateway.listening import Listening
from gateway.servers.socketio.server import SocketServer

MARK = "hostile"
"""In the arguments of events that no handler may ever see."""

NAMESPACES = ["/", "/custom"]
MAX_SIZE = 131_072
"""The limit that the gateway has by default, for a fair comparison."""

counts: Counter[str] = Counter()


def report_on_stdin() -> None:
    """For each line, print how many tasks there are, and the other counts."""

    def report() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin)
            return
        print(json.dumps({"tasks": len(asyncio.all_tasks(loop)), **counts}), flush=True)  # noqa: T201

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, report)


class CountedGateway(Gateway):
    async def start(self) -> Listening:
        report_on_stdin()
        return await super().start()


# --- the application

Send = Callable[[str, dict[str, Any]], Awaitable[None]]


class Chat:
    """Names and rooms, as a tutorial has them: in memory, and every message written to every member."""

    def __init__(self) -> None:
        self.people: dict[str, Send] = {}
        self.rooms: dict[str, list[str]] = {}

    async def perform(self, name: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        room = payload.get("room", "")
        match action:
            case "create-room":
                self.rooms[room] = [name, *payload["users"]]
                await self.notify(room, name, "room-joined", {"room": room})
            case "send-msg":
                message = {"room": room, "from": name, "content": payload["content"]}
                await self.notify(room, name, "message", message)
            case "list-members":
                members = [{"username": member, "online": member in self.people} for member in self.rooms[room]]
                return {"ok": True, "members": members}
            case "find-users":
                return {"ok": True, "users": sorted(self.people)}
            case "list-rooms":
                return {"ok": True, "rooms": [room for room, members in self.rooms.items() if name in members]}
            case "slow":
                await be_slow()
            case _:
                return {"ok": False}
        return {"ok": True}

    async def notify(self, room: str, author: str, event: str, fields: dict[str, Any]) -> None:
        for member in self.rooms.get(room, ()):
            if member != author and member in self.people:
                await self.people[member](event, fields)


async def be_slow() -> None:
    counts["started"] += 1
    counts["running"] += 1
    counts["most"] = max(counts["most"], counts["running"])
    try:
        await asyncio.sleep(0.001)  # its work
    finally:
        counts["running"] -= 1


def note_fooled(arguments: tuple[Any, ...]) -> None:
    """An event of a name that is the server's own has reached a handler."""
    if MARK in str(arguments):
        counts["fooled"] += 1


def add_sockets(sio: socketio.AsyncServer, chat: Chat) -> None:
    names: dict[str, str] = {}

    def add_to(namespace: str) -> None:
        @sio.on("connect", namespace=namespace)
        async def connect(sid: str, environ: Any, auth: Any = None) -> None:
            note_fooled((environ if not isinstance(environ, dict) or "REQUEST_METHOD" not in environ else "", auth))
            if namespace == "/" and isinstance(auth, dict):

                async def send(event: str, fields: dict[str, Any]) -> None:
                    await sio.emit(event, fields, to=sid)

                names[sid] = auth["username"]
                chat.people[names[sid]] = send
                await sio.emit("welcome", {"username": names[sid]}, to=sid)

        @sio.on("disconnect", namespace=namespace)
        async def disconnect(sid: str, *reason: Any) -> None:
            note_fooled(reason)
            chat.people.pop(names.pop(sid, ""), None)

        @sio.on("*", namespace=namespace)
        async def anything(event: str, sid: str, *arguments: Any) -> Any:
            note_fooled(arguments)
            payload = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
            return await chat.perform(names.get(sid, ""), event, payload)

    for namespace in NAMESPACES:
        add_to(namespace)


def plain_route(chat: Chat) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        socket = web.WebSocketResponse(max_msg_size=MAX_SIZE, heartbeat=25)
        await socket.prepare(request)

        async def send(event: str, fields: dict[str, Any]) -> None:
            await socket.send_str(json.dumps({"event": event, **fields}, separators=(",", ":")))

        chat.people[name] = send
        try:
            with contextlib.suppress(ConnectionResetError):  # the client disconnected before the response
                await send("welcome", {"username": name})
                async for message in socket:
                    if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                        frame = json.loads(message.data)
                        reply = await chat.perform(name, frame["action"], frame)
                        await send("reply", {**reply, **({"ref": frame["ref"]} if "ref" in frame else {})})
        finally:
            chat.people.pop(name, None)
        return socket

    return handle


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def serve(kind: str, host: str, port: int) -> None:
    options: dict[str, Any] = {"cors_allowed_origins": "*", "max_http_buffer_size": MAX_SIZE}
    chat = Chat()
    sio = SocketServer(**options) if kind == "ours" else socketio.AsyncServer(async_mode="aiohttp", **options)
    add_sockets(sio, chat)
    app = web.Application()
    sio.attach(app)
    app.router.add_get("/username/{name}", plain_route(chat))
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    report_on_stdin()
    print(f"ready: http://{host}:{runner.addresses[0][1]}/", flush=True)  # noqa: T201
    await asyncio.Event().wait()


def main(kind: str, arguments: list[str]) -> None:
    if kind == "gateway":
        command.Gateway = CountedGateway  # type: ignore[misc]
        cli.main(arguments)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    options, _ = parser.parse_known_args(arguments)
    uvloop.run(serve(kind, options.host, options.port))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
