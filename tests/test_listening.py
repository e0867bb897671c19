"""Where the gateway listens: several addresses, IPv4 and IPv6, a Unix socket; and what it prints of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import unix_connect

from gateway.listening import Listening as listen  # noqa: N813 - this module has a process of that name
from harness.http import request
from harness.inbox import TIMEOUT
from harness.process import GatewayProcess
from test_config import run

EVERY = "0.0.0.0"  # noqa: S104 - no longer than a test


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


class Listening(GatewayProcess):
    """Started with a command line of the test's own; ``ready`` is the line that it prints."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.words = words
        self.ready = ""

    @property
    def arguments(self) -> list[str]:
        return ["--store", "sqlite://", *self.words]

    async def start(self) -> None:
        process = await self.spawn()
        assert process.stdout is not None
        self.ready = (await process.stdout.readline()).decode()
        assert self.ready.startswith("Gateway ready: "), self.log
        found = re.search(r"http://\S+?(?=/)", self.ready)
        self.url = found.group() if found else ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("host", "towards", "announced"),
    [
        ("127.0.0.1", "192.0.2.1", "127.0.0.1"),
        (EVERY, "127.0.0.1", "127.0.0.1"),
        (EVERY, "no such host", "127.0.0.1"),
        ("::1", "127.0.0.1", "[::1]"),
        ("::", "::1", "[::1]"),
    ],
)
async def test_a_node_announces_where_others_reach_it(host: str, towards: str, announced: str) -> None:
    """Where it listens; if that is everywhere, at the address from which it reaches the store."""
    listening = listen([host], 0, None)
    try:
        address = listening.node_address(towards)
        assert address is not None
        assert address.rpartition(":")[0] == announced
        assert address.rpartition(":")[2] == listening.addresses[0].rpartition(":")[2]
    finally:
        listening.close()


async def test_a_node_on_a_unix_socket_announces_nothing(tmp_path: Path) -> None:
    """No other machine can reach it."""
    listening = listen([], 0, str(tmp_path / "s"))
    assert listening.node_address("127.0.0.1") is None
    listening.close()


@pytest.mark.parametrize(
    ("hosts", "reached", "refused"),
    [
        (["127.0.0.1"], ["127.0.0.1"], ["::1", "127.0.0.2"]),
        ([EVERY], ["127.0.0.1", "127.0.0.2"], ["::1"]),
        (["::"], ["::1"], ["127.0.0.1"]),
        (["::", EVERY], ["::1", "127.0.0.1"], []),
        ([EVERY, "::"], ["::1", "127.0.0.1"], []),
        (["127.0.0.1", "::1"], ["127.0.0.1", "::1"], ["127.0.0.2"]),
        (["127.0.0.1", "127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.3", "::1"]),
        (["127.0.0.1", "127.0.0.1", "localhost"], ["127.0.0.1"], []),
        (["127.0.0.1", EVERY, "localhost"], ["127.0.0.1", "127.0.0.2"], []),
    ],
    ids=lambda names: " ".join(names) or "-",
)
async def test_every_host_is_listened_on_with_one_port(
    hosts: list[str], reached: list[str], refused: list[str]
) -> None:
    """Also with --port 0: one free port for all of them; and nothing else is listened on."""
    async with Listening("--port", "0", *(word for host in hosts for word in ("--host", host))) as own:
        for host in reached:
            assert reaches(host, own.port), host
            shown = f"[{host}]" if ":" in host else host
            assert (await request("GET", f"http://{shown}:{own.port}/health")).status == 200
        for host in refused:
            assert not reaches(host, own.port), host


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--host 127.0.0.1", "open http://127.0.0.1:PORT/"),
        ("--host 0.0.0.0", "open http://127.0.0.1:PORT/ (listening on 0.0.0.0:PORT)"),
        ("--host ::", "open http://[::1]:PORT/ (listening on [::]:PORT)"),
        ("--host ::1", "open http://[::1]:PORT/"),
        ("--host :: --host 0.0.0.0", "open http://[::1]:PORT/ (listening on [::]:PORT and 0.0.0.0:PORT)"),
    ],
)
async def test_the_printed_addresses_are_the_ones_listened_on(words: str, line: str) -> None:
    """The address itself, and beside it one that a browser can open."""
    async with Listening("--port", "0", *words.split()) as own:
        assert own.ready == f"Gateway ready: {line}\n".replace("PORT", str(own.port))
        assert await own.stop() == 0
        for address in re.findall(r"[^ ]+:PORT", line.partition("listening on ")[2]):
            assert address.replace("PORT", str(own.port)) in own.log
    async with Listening("--port", "0", *words.split()) as again:
        assert (await request("GET", f"{again.url}/health")).status == 200


def test_an_address_in_use_is_reported_in_one_line() -> None:
    """For each of the hosts; the reason is given once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for hosts in (["127.0.0.1"], ["::1", "127.0.0.1"], [EVERY]):
            words = [word for host in hosts for word in ("--host", host)]
            result = run("--store", "sqlite://", "--port", port, *words)
            assert result.returncode == 1
            last = result.stderr.splitlines()[-1]
            assert last.startswith(f"gateway: Cannot listen on {hosts[-1]}:{port}: ")
            assert result.stderr.lower().count("address already in use") == 1
            assert last.count(port) == 1
            assert "stopped" not in result.stderr


# --- the Unix socket


async def fetch(path: Path, url: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(TIMEOUT)
        ) as session,
        session.get(f"http://chat.example{url}") as response,
    ):
        return response.status, await response.text()


def mode_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sock"


async def test_clients_connect_over_a_unix_socket(path: Path) -> None:
    """Pages, long polling and both kinds of WebSocket, as a proxy passes them on; nothing listens on a port."""
    async with Listening("--unix-socket", str(path)) as own:
        assert own.ready == f"Gateway ready: listening on unix:{path}\n"
        assert mode_of(path) == 0o660
        assert (await fetch(path, "/health"))[0] == 200
        assert "<html" in (await fetch(path, "/"))[1]
        assert (await fetch(path, "/socket.io/?EIO=4&transport=polling"))[1].startswith('0{"sid"')
        forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        async with (
            unix_connect(
                str(path), "ws://chat.example/username/alice?format=json", additional_headers=forwarded
            ) as alice,
            unix_connect(str(path), "ws://chat.example/socket.io/?EIO=4&transport=websocket") as bob,
        ):
            assert json.loads(await alice.recv())["event"] == "welcome"
            assert str(await bob.recv()).startswith("0")
            await bob.send('40{"username":"bob"}')
            assert str(await bob.recv()).startswith("40")
            assert "welcome" in str(await bob.recv())
            await alice.send('{"action":"create-room","room":"tea","users":["bob"]}')
            assert "room-joined" in str(await bob.recv())
            await bob.send('42["send-msg",{"room":"tea","content":"hello"}]')
            while json.loads(frame := await alice.recv())["event"] != "message":
                pass
            assert json.loads(frame)["content"] == "hello"
            assert "127.0.0.1" not in own.log
            assert await own.stop() == 0
            assert mode_of(path) is None
            assert (await alice.wait_closed()) is None
            assert alice.close_code == 1012


async def test_a_port_can_be_used_beside_the_unix_socket(path: Path) -> None:
    async with Listening("--unix-socket", str(path), "--host", "127.0.0.1", "--port", "0") as own:
        assert (await request("GET", f"{own.url}/health")).status == 200
        assert (await fetch(path, "/health"))[0] == 200
        assert str(path) in own.ready


async def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(path: Path) -> None:
    """After kill -9 the file is still there: the next start takes its place. Another gateway that runs keeps it."""
    async with Listening("--unix-socket", str(path)) as first:
        await first.kill9()
    assert mode_of(path) is not None
    async with Listening("--unix-socket", str(path)):
        second = run("--store", "sqlite://", "--unix-socket", str(path))
        assert second.returncode == 1
        assert "another process listens on it" in second.stderr
        assert (await fetch(path, "/health"))[0] == 200
    assert mode_of(path) is None


async def test_a_unix_socket_taken_over_by_another_process_is_not_removed(path: Path) -> None:
    """Its file was replaced while the gateway ran: the old process does not remove the new one's socket."""
    async with Listening("--unix-socket", str(path)) as old:
        os.unlink(path)
        async with Listening("--unix-socket", str(path)):
            await old.signal(signal.SIGTERM)
            assert await old.wait() == 0
            assert (await fetch(path, "/health"))[0] == 200


@pytest.mark.parametrize("kind", ["file", "folder", "link", "missing folder", "long"])
def test_a_file_that_is_not_a_socket_is_left_alone(path: Path, kind: str) -> None:
    """A wrong path is one clear line, and nothing is removed."""
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/etc/passwd")
        case "missing folder":
            path = path.parent / "missing" / "g.sock"
        case "long":
            path = path.parent / ("x" * 120)
    result = run("--store", "sqlite://", "--unix-socket", str(path))
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"gateway: Cannot listen on the Unix socket {path}: ")
    if kind in {"file", "folder", "link"}:
        assert path.lstat()
        assert "not a socket" in last
