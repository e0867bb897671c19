"""The servers as a library: what they log, and where; and what an application may set."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import socketio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import gateway
from gateway.servers import SocketServer
from servers.serving import serving

WEBSOCKET = "?EIO=4&transport=websocket"

APPLICATION = """
import asyncio, sys
import aiohttp, socketio
from aiohttp import web
from gateway.servers import EngineServer, SocketServer
from gateway.servers.http.runner import Runner
from gateway.servers.http.upgrades import Upgrades

sio, eio = SocketServer(), EngineServer()

@sio.event
async def fail(sid):
    raise TypeError("a mistake")

@sio.event
def disconnect(sid, reason):
    raise TypeError("a mistake")

@eio.on("message")
def message(sid, data):
    raise TypeError("a mistake")

async def main():
    app = web.Application()
    sio.attach(app)
    eio.attach(app)
    runner = Runner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        await (await session.get(f"{url}/socket.io/?EIO=3&transport=polling")).read()
        for said in ('42["x"]', "4nonsense", '451-["x"]', "9"):
            socket = await session.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket")
            await socket.send_str("40")
            await socket.send_str(said)
            await socket.send_str('42["fail"]')
            await socket.send_str('421["nothing"]')
            await socket.receive()
            await socket.receive()
            await socket.close()
        socket = await session.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket")
        await socket.send_bytes(b"\\x83\\xa4type\\x00\\xa4data\\x80\\xa3nsp\\xa1/")
        await socket.receive()
        await socket.close()
        socket = await session.ws_connect(f"{url}/engine.io/?EIO=4&transport=websocket")
        await socket.send_str("4x")
        await socket.receive()
        await socket.close()
    await runner.cleanup()
    print([name for name in sys.modules if name.split(".")[0] in {"structlog", "marshmallow"}], file=sys.stderr)

asyncio.run(main())
print("done")
"""


def test_nothing_is_logged_unless_the_application_configures_logging() -> None:
    """Not on stdout, not on stderr, whatever clients and handlers do wrong; and nothing of the gateway's is loaded."""
    root = Path(gateway.__file__).parent.parent
    paths = [str(root), *(path for path in sys.path if "site-packages" in path)]
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(paths), "PATH": ""},
    )
    assert (done.stdout, done.stderr) == ("done\n", "[]\n")


@pytest.mark.fast
async def test_errors_are_logged_where_the_application_configures_logging(caplog: pytest.LogCaptureFixture) -> None:
    """Under the names of the modules, below ``gateway.servers``; with the traceback."""
    server = SocketServer(socketio.AsyncManager())

    @server.event
    async def fail(sid: str) -> None:
        raise RuntimeError("a mistake")

    async with serving(server, "socket.io") as url, connect(f"{url.replace('http', 'ws')}{WEBSOCKET}") as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        await socket.send('42["fail"]')
        await socket.send('421["fail"]')
        await socket.close()
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert records
    assert {record.name.rpartition(".")[0] for record in records} == {"gateway.servers"}
    assert "RuntimeError: a mistake" in caplog.text


# --- attachments


def echo(**options: Any) -> SocketServer:
    server = SocketServer(socketio.AsyncManager(), max_http_buffer_size=5_000_000, **options)

    @server.event
    async def sizes(sid: str, *data: bytes) -> list[int]:
        return [len(part) for part in data]

    return server


async def send(url: str, sizes: list[int]) -> list[int] | int | None:
    """What comes back for an event with attachments of these sizes: theirs, or the code with which it is closed."""
    async with connect(f"{url.replace('http', 'ws')}{WEBSOCKET}", ping_interval=None) as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        places = [{"_placeholder": True, "num": number} for number in range(len(sizes))]
        try:
            await socket.send(f"45{len(sizes)}-1{json.dumps(['sizes', *places])}")
            for size in sizes:
                await socket.send(bytes(size))
            return list(json.loads(str(await socket.recv())[3:])[0])
        except ConnectionClosed:
            return socket.close_code


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "accepted", "refused"),
    [
        ({}, [100_000] * 10, [1] * 11),
        ({}, [1_000_000], [1_000_001]),
        ({"max_attachments": 3}, [1] * 3, [1] * 4),
        ({"max_attachments": 100}, [1] * 100, [1] * 101),
        ({"max_attachments": 0}, [], [1]),
        ({"max_attachments_size": 10}, [5, 5], [5, 6]),
        ({"max_attachments_size": 3_000_000}, [1_500_000, 1_500_000], [1_500_000, 1_500_001]),
    ],
    ids=str,
)
async def test_attachments_are_limited_in_number_and_size(
    options: dict[str, int], accepted: list[int], refused: list[int]
) -> None:
    """``max_attachments`` and ``max_attachments_size`` of one packet."""
    async with serving(echo(**options), "socket.io") as url:
        assert await send(url, accepted) == accepted
        assert await send(url, refused) == 1002


@pytest.mark.fast
@pytest.mark.parametrize("handled", [True, False], ids=["handler of connect", "no handler"])
async def test_the_access_log_has_the_status_sent(caplog: pytest.LogCaptureFixture, handled: bool) -> None:
    """101 for a WebSocket, as on aiohttp's own."""
    server = echo()
    if handled:
        server.on("connect", lambda sid, environ: None)
    caplog.set_level(logging.INFO, "aiohttp.access")
    async with (
        serving(server, "socket.io", access_log=logging.getLogger("aiohttp.access")) as url,
        connect(f"{url}{WEBSOCKET}".replace("http", "ws")) as socket,
    ):
        await socket.recv()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    assert f'GET /socket.io/{WEBSOCKET} HTTP/1.1" 101 ' in line


@pytest.mark.fast
@pytest.mark.parametrize("option", ["max_attachments", "max_attachments_size"])
@pytest.mark.parametrize("value", [None, "10", -1, 1.5, True])
def test_a_limit_of_attachments_must_be_a_number(option: str, value: object) -> None:
    """Anything else is refused when the server is made, not with the first event that has one."""
    with pytest.raises(ValueError, match=rf"{option}= must be an integer of 0 or more, not {value!r}"):
        SocketServer(**{option: value})


def test_importing_the_servers_loads_no_chat_module() -> None:
    """Importing them loads no module of the gateway but their own, and none of the packages that the chat uses."""
    code = "import sys, gateway.servers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.startswith("gateway.")} == {
        name for name in loaded if name.startswith("gateway.servers")
    }
    assert not {"structlog", "marshmallow", "click", "sqlite3", "uvloop"} & set(loaded)
