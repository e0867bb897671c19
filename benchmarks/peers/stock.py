"""A minimal chat on python-socketio and aiohttp: nothing is kept, nothing is checked but membership.

Set up as fast as the library goes: uvloop, no logging, no task for each event, no compression.

Usage: python stock.py [URL], for one of several nodes: the Redis server that connects them. Who is logged in where is
in a hash there.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import sys
import time
from typing import Any

import socketio
import uvloop
from aiohttp import web
from redis.asyncio import Redis

url = sys.argv[1] if len(sys.argv) > 1 else ""
directory = Redis.from_url(url, decode_responses=True) if url else None
sio = socketio.AsyncServer(
    async_mode="aiohttp",
    async_handlers=False,
    http_compression=False,
    cors_allowed_origins="*",
    transports=["websocket"],
    client_manager=socketio.AsyncRedisManager(url) if url else None,
)
sids: dict[str, str] = {}
usernames: dict[str, str] = {}
DIRECTORY = "users"
rooms: set[str] = set()


def refuse(code: str) -> dict[str, Any]:
    return {"ok": False, "error": {"code": code}}


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    username = auth["username"]
    if username in sids:
        raise socketio.exceptions.ConnectionRefusedError("username_taken")
    sids[username] = sid
    usernames[sid] = username
    if directory is not None:
        await directory.hset(DIRECTORY, username, sid)


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    sids.pop(usernames.pop(sid, ""), None)


async def find(names: list[str]) -> list[str] | None:
    """The sids of users; None where one is not there."""
    found = [sids.get(name) for name in names]
    if directory is not None and names:
        found = await directory.hmget(DIRECTORY, names)
    return [sid for sid in found if sid] if all(found) else None


async def add_to_room(members: list[str], room: str, by: str) -> None:
    for sid in members:
        await sio.enter_room(sid, room)
        await sio.emit("room-joined", {"room": room, "by": by}, to=sid)


@sio.on("create-room")
async def create_room(sid: str, data: dict[str, Any]) -> dict[str, Any]:
    room, names = data["room"], data.get("users", [])
    if room in rooms:
        return refuse("room_exists")
    if (members := await find(names)) is None:
        return refuse("unknown_user")
    rooms.add(room)
    await sio.enter_room(sid, room)
    await add_to_room(members, room, usernames[sid])
    return {"ok": True, "room": room}


@sio.on("add-user")
async def add_user(sid: str, data: dict[str, Any]) -> dict[str, Any]:
    room, names = data["room"], data["users"]
    if not is_member(sid, room):
        return refuse("room_not_found")
    if (members := await find(names)) is None:
        return refuse("unknown_user")
    await add_to_room(members, room, usernames[sid])
    return {"ok": True, "added": names}


@sio.on("send-msg")
async def send_msg(sid: str, data: dict[str, Any]) -> dict[str, Any]:
    room = data["room"]
    if not is_member(sid, room):
        return refuse("room_not_found")
    id_, ts = secrets.token_urlsafe(12), int(time.time() * 1000)
    message = {"id": id_, "room": room, "from": usernames[sid], "content": data["content"], "ts": ts}
    await sio.emit("message", message, room=room, skip_sid=sid)
    return {"ok": True, "id": id_, "ts": ts}


def is_member(sid: str, room: str) -> bool:
    # Not `sio.rooms(sid)`, which looks through all rooms of the server.
    return sid in sio.manager.rooms["/"].get(room, ())


async def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app = web.Application()
    sio.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"ready http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
