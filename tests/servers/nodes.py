"""Nodes of a cluster: their directory, servers in the test's own process and in processes of their own, and a way to
have each session on another node than its requests come to.

Run as a program, with its arguments in JSON, this module is such a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import socketio
import uvloop

from gateway.servers import EngineServer, SocketServer
from gateway.servers.engineio.forwarding import Forwarding
from harness.balancer import Balancer, balancing
from harness.inbox import TIMEOUT
from harness.process import die_with_parent, stable_port
from servers.serving import echo_server, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TESTS = Path(__file__).parents[1]


class Table:
    """A `Directory` that is a dictionary."""

    def __init__(self, node: str, addresses: dict[str, str], key: bytes = b"of the nodes") -> None:
        self.node = node
        self.addresses = addresses
        self.secret = key
        self.late = 0.0
        """How far this node's clock is behind, in seconds."""

    def address_of(self, node: str) -> str | None:
        return self.addresses.get(node)

    def now(self) -> float:
        return time.time() - self.late


def address_of(url: str) -> str:
    return urlsplit(url).netloc


@asynccontextmanager
async def behind_another_node(path: str, **options: Any) -> AsyncIterator[EngineServer]:
    """An echo server, whose ``url`` has handshakes sent to it, and all other requests to another node."""
    async with AsyncExitStack() as stack:
        addresses: dict[str, str] = {}
        servers = []
        for node in ("home", "away"):
            server = echo_server(**options, forwarder=Forwarding(Table(node, addresses)))
            url = await stack.enter_async_context(serving(server, path, past_aiohttp=True))
            addresses[node] = address_of(url)
            servers.append(server)
        balancer = Balancer(lambda line: addresses["away" if "sid=" in line else "home"], keep_alive=True)
        front = await stack.enter_async_context(balancing(balancer))
        home, home.away = servers
        home.url = f"{front}/{path}/"
        yield home


def chat_server(forwarder: Forwarding) -> SocketServer:
    """A Socket.IO server whose clients get their arguments back, and may ask which node they are on."""
    server = SocketServer(socketio.AsyncManager(), forwarder=forwarder)

    @server.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        await server.emit("welcome", {}, to=sid)

    @server.on("echo")
    async def echo(sid: str, value: Any) -> Any:
        await server.emit("echoed", value, to=sid)
        return value

    @server.on("node")
    async def node(sid: str) -> dict[str, Any]:
        return {"node": forwarder.node}

    return server


class NodeProcess:
    """A node that can be killed."""

    def __init__(self, node: str, addresses: dict[str, str]) -> None:
        self.node = node
        self.url = f"http://{addresses[node]}"
        self._addresses = addresses
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        arguments = json.dumps({"node": self.node, "addresses": self._addresses})
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "servers.nodes", arguments),
            stdout=asyncio.subprocess.PIPE,
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            preexec_fn=die_with_parent,
        )
        assert process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            assert await process.stdout.readline() == b"ready\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def free_addresses(nodes: str) -> dict[str, str]:
    """An address for each of ``nodes``, whose names have a letter each."""
    return {node: f"127.0.0.1:{stable_port()}" for node in nodes}


async def run(node: str, addresses: dict[str, str]) -> None:
    """Be a node, on uvloop as the gateway is, until the process is killed."""
    server = chat_server(Forwarding(Table(node, addresses)))
    host, _, port = addresses[node].rpartition(":")
    async with serving(server, "socket.io", past_aiohttp=True, address=(host, int(port))):
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(**json.loads(sys.argv[1])))
