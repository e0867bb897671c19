"""The memory of an idle client, and of a refused one."""

from __future__ import annotations

import asyncio
import contextlib
import re
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness.http import WEBSOCKET_HEADERS, request
from harness.http1 import head
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import JsonClient
from harness.process import GatewayProcess, StartGateway
from harness.raw import ENGINE, open_polling
from hostile.attack import Attacker, PlainAttacker, SocketIOAttacker, masked, message

WARM, MEASURED, AT_ONCE = 500, 1_500, 50
BOUND = 8 * 1024
"""Bytes for each logged-in connection that says nothing."""

HEAD = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())


def resident(gateway: GatewayProcess) -> int:
    """Bytes of memory that the process has now."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


async def connect_idle(gateway: GatewayProcess, wire: str, name: str) -> asyncio.StreamWriter:
    """A connection of its own making: clients of a library would fill the machine before the gateway does."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=4096)
    path = f"/username/{name}?format=json" if wire == "json" else f"{ENGINE}&transport=websocket"
    writer.write(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode())
    if wire == "socketio":
        connect = f'40{{"username":"{name}"}}'.encode()
        writer.write(bytes([0x81, 0x80 | len(connect)]) + b"\0\0\0\0" + connect)
    async with asyncio.timeout(TIMEOUT):
        await reader.readuntil(b'"recovered":false')
    return writer


@pytest.mark.parametrize("wire", ["json", "socketio"])
async def test_an_idle_client_takes_little_memory(start_gateway: StartGateway, wire: str) -> None:
    """A logged-in client that says nothing takes at most 8 KiB of the gateway's memory."""
    own = await start_gateway()
    writers: list[asyncio.StreamWriter] = []

    async def crowd(size: int) -> int:
        while len(writers) < size:
            names = [f"user{len(writers) + number}" for number in range(AT_ONCE)]
            writers.extend(await asyncio.gather(*(connect_idle(own, wire, name) for name in names)))
        return resident(own)

    before = await crowd(WARM)
    after = await crowd(WARM + MEASURED)
    for writer in writers:
        writer.transport.abort()
    assert (after - before) / MEASURED <= BOUND


LONG = "x" * 120_000
"""Nearly as long as a frame may be."""

FRAMES = {
    "too large": masked(1, b"x" * 300_000),
    "no UTF-8": masked(1, b"\xff" * 120_000),
    "no UTF-8 at its end": masked(1, LONG.encode() + b"\xff"),
    "no JSON": message(f'42["{LONG}'),
    "fragments that are too large": masked(1, LONG.encode(), head=0) + masked(0, LONG.encode()),
    "half of its fragments": masked(1, LONG.encode(), head=0),
    "a message amid another": masked(1, LONG.encode(), head=0) + masked(1, b"x"),
    "a reserved bit": masked(1, LONG.encode(), head=0xC0),
    "an unknown opcode": masked(7, LONG.encode()),
    "binary": masked(2, LONG.encode()),
}
"""Requests that every wire refuses."""

PACKETS = {
    "an unknown packet": f"9{LONG}",
    "an unknown action": f'421["nope","{LONG}"]',
    "a wrong payload": f'421["send-msg",{{"room":"r","content":"{LONG}"}}]',
    "an event without its attachments": f'452-1["send-msg",{{"_placeholder":true,"num":0}},"{LONG}"]',
    "an unknown namespace": f"40/{LONG},{{}}",
    "a second log-in": f'40{{"username":"{LONG}"}}',
    "an unknown ack": f'431["{LONG}"]',
}
ACTIONS = {
    "an unknown action": f'{{"action":"nope","x":"{LONG}"}}',
    "a wrong payload": f'{{"action":"send-msg","room":"r","content":"{LONG}"}}',
    "a list": f'["{LONG}"]',
}
BODIES = {
    "an unknown packet": f"9{LONG}",
    "no JSON": f'42["{LONG}',
    "no base64": f"b{LONG}!",
    "too large": LONG * 2,
}
HEADS = {
    "no HTTP": LONG.encode(),
    "a long line": f"GET /{LONG} HTTP/1.1\r\n\r\n".encode(),
    "a body for nobody": head("/nope", [("Content-Length", str(len(LONG)))], method="POST") + LONG.encode(),
    "a body for a page": head("/", [("Content-Length", str(len(LONG)))], method="POST") + LONG.encode(),
}


UNANSWERED = {FRAMES["half of its fragments"], message(PACKETS["an unknown ack"])}
"""Packets that are accepted without a reply."""


async def ask(kind: type[Attacker], url: str, data: bytes) -> None:
    """Log in, send ``data``, and go once it is replied to, or is known to have been read: a pong says so."""
    async with kind(url) as client:
        if isinstance(client, SocketIOAttacker | PlainAttacker):
            await client.log_in()
        await client.send(data)
        if data in UNANSWERED:
            await client.send(masked(9, b"read?"))
            await client.read_until(b"\x8a\x05read?")
            return
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(TIMEOUT):
                await client.reader.read(100)


async def post(url: str, body: str) -> None:
    polling = await open_polling(url)
    await request("POST", polling, data=f'40{{"username":"{fresh_name()}"}}')
    await request("GET", polling)
    await request("POST", polling, data=body)


LOG_INS = {
    "a wrong username": f'{{"username":"!","x":"{LONG}"}}',
    "a wrong pid": f'{{"username":"alice","pid":1,"x":"{LONG}"}}',
    "no object": f'["{LONG}"]',
    "a long namespace": f'/{LONG},{{"username":"alice"}}',
}


async def log_in(url: str, auth: str) -> None:
    """Ask for a session, and go once it is refused."""
    async with SocketIOAttacker(url) as client:
        await client.open()
        await client.send(message(f"40{auth}"))
        await client.read_until(b"44")


async def log_in_as_another(url: str) -> None:
    async with JsonClient(url, fresh_name()) as holder:
        await log_in(url, f'{{"username":"{holder.username}","x":"{LONG}"}}')


REFUSED = {
    **{f"socketio: {name}, at log-in": partial(log_in, auth=auth) for name, auth in LOG_INS.items()},
    "socketio: a name that is taken": log_in_as_another,
    **{f"socketio: {name}": partial(ask, SocketIOAttacker, data=frame) for name, frame in FRAMES.items()},
    **{f"plain: {name}": partial(ask, PlainAttacker, data=frame) for name, frame in FRAMES.items()},
    **{f"socketio: {name}": partial(ask, SocketIOAttacker, data=message(packet)) for name, packet in PACKETS.items()},
    **{f"plain: {name}": partial(ask, PlainAttacker, data=message(text)) for name, text in ACTIONS.items()},
    **{f"polling: {name}": partial(post, body=body) for name, body in BODIES.items()},
    **{f"http: {name}": partial(ask, Attacker, data=data) for name, data in HEADS.items()},
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_refused_requests_leak_no_memory(gateway: GatewayProcess, kind: str) -> None:
    """It is gone with its reply: not kept by an error, or by what an error has gone through, until Python's garbage
    collector comes, for that comes rarely.
    """
    refuse = REFUSED[kind]
    for _ in range(5):
        await refuse(gateway.url)
    before = most = resident(gateway)
    for _ in range(30):
        await refuse(gateway.url)
        most = max(most, resident(gateway))
    assert most - before < 1_500_000
