"""What carries a WebSocket: the order of a client's messages, heartbeats, and taking connections over from aiohttp."""

from __future__ import annotations

import asyncio
import gc
import itertools
from enum import Enum
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.servers.engineio import state
from gateway.servers.engineio.socket import EngineSocket
from gateway.servers.heartbeats import Heartbeats
from gateway.servers.websocket import stream
from gateway.servers.websocket.rfc6455 import Message, binary_frame
from gateway.servers.websocket.stream import MAX_AT_ONCE, WebSocketStream
from harness.http import WEBSOCKET_HEADERS, request
from harness.waiting import until
from servers.echo import EchoServer

pytestmark = pytest.mark.fast

SOON = 5.0
"""Seconds that only a failing test waits."""


# --- Heartbeats


class Beating:
    """A connection that records when it was pinged and when it timed out."""

    def __init__(self, heartbeats: Heartbeats, log: list[tuple[str, Beating, float]], *, answers: bool = False) -> None:
        self._heartbeats = heartbeats
        self._log = log
        self._answers = answers
        self.gone = asyncio.Event()
        self.pinged = asyncio.Event()

    def ping(self) -> None:
        self._log.append(("ping", self, asyncio.get_running_loop().time()))
        self.pinged.set()
        if self._answers:
            self._heartbeats.answered(self)

    def timed_out(self) -> None:
        self._log.append(("timed out", self, asyncio.get_running_loop().time()))
        self.gone.set()


Log = list[tuple[str, Beating, float]]


async def test_silent_clients_are_pinged_and_closed_in_order() -> None:
    """Each after the interval and then the timeout, to the millisecond and not before 0.99 of it."""
    heartbeats, log = Heartbeats(0.15, 0.1), Log()
    start = asyncio.get_running_loop().time()
    clients = [Beating(heartbeats, log) for _ in range(3)]
    for client in clients:
        heartbeats.add(client)
    async with asyncio.timeout(SOON):
        await clients[-1].gone.wait()
    assert [(what, clients.index(client)) for what, client, _ in log] == [
        *(("ping", number) for number in range(3)),
        *(("timed out", number) for number in range(3)),
    ]
    assert log[0][2] - start >= 0.148
    assert log[3][2] - log[0][2] >= 0.098
    heartbeats.close()


async def test_a_client_that_sends_pongs_is_pinged_again_and_again() -> None:
    """A client that sends pongs stays, beside one that does not."""
    heartbeats, log = Heartbeats(0.02, 0.05), Log()
    good, bad = Beating(heartbeats, log, answers=True), Beating(heartbeats, log)
    heartbeats.add(good)
    heartbeats.add(bad)
    async with asyncio.timeout(SOON):
        await bad.gone.wait()
    assert sum(client is good for _, client, _ in log) >= 2
    assert not good.gone.is_set()
    heartbeats.close()


async def test_a_client_with_an_immediate_pong_is_pinged_after_the_interval() -> None:
    """However long the timeout is, and also where it is the only client."""
    heartbeats, log = Heartbeats(0.02, 60), Log()
    client = Beating(heartbeats, log)
    heartbeats.add(client)
    async with asyncio.timeout(SOON):
        for _ in range(3):
            await client.pinged.wait()
            client.pinged.clear()
            heartbeats.answered(client)
    assert all(later[2] - earlier[2] > 0.018 for earlier, later in itertools.pairwise(log))
    heartbeats.close()


async def test_an_unsolicited_pong_changes_nothing() -> None:
    """A client cannot put its next ping off by chattering."""
    heartbeats, log = Heartbeats(0.1, 0.1), Log()
    client = Beating(heartbeats, log)
    start = asyncio.get_running_loop().time()
    heartbeats.add(client)
    async with asyncio.timeout(SOON):
        while not client.pinged.is_set():
            heartbeats.answered(client)
            await asyncio.sleep(0)
    assert log[0][2] - start < 0.2
    heartbeats.close()


async def test_a_removed_client_is_not_pinged() -> None:
    """Whether it was removed before its ping or after it; others go on."""
    heartbeats, log = Heartbeats(0.05, 0.05), Log()
    never, once, last = (Beating(heartbeats, log) for _ in range(3))
    for client in (never, once, last):
        heartbeats.add(client)
    heartbeats.remove(never)
    async with asyncio.timeout(SOON):
        await once.pinged.wait()
        heartbeats.remove(once)
        heartbeats.remove(once)
        await last.gone.wait()
    assert [(what, client) for what, client, _ in log] == [("ping", once), ("ping", last), ("timed out", last)]
    heartbeats.close()


async def test_a_connection_may_be_removed_by_another_that_times_out() -> None:
    """The timeout of one connection may end others."""
    heartbeats, log = Heartbeats(0.02, 0.02), Log()

    class Deadly(Beating):
        def timed_out(self) -> None:
            heartbeats.remove(victim)
            super().timed_out()

    deadly, victim = Deadly(heartbeats, log), Beating(heartbeats, log)
    heartbeats.add(deadly)
    heartbeats.add(victim)
    async with asyncio.timeout(SOON):
        await deadly.gone.wait()
    await asyncio.sleep(0)
    assert not victim.gone.is_set()
    heartbeats.close()


async def test_the_timer_runs_only_while_there_are_clients() -> None:
    """Heartbeats that were closed, or have nobody left, wake nobody; a new client starts them again."""
    heartbeats, log = Heartbeats(0.02, 0.02), Log()
    first, second = Beating(heartbeats, log), Beating(heartbeats, log)
    heartbeats.add(first)
    async with asyncio.timeout(SOON):
        await first.gone.wait()
        heartbeats.add(second)
        await second.gone.wait()
    assert [what for what, _, _ in log] == ["ping", "timed out"] * 2
    heartbeats.close()


# --- taking over


async def hand_shaken(server: EchoServer, behind: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection after its handshake; ``behind`` was sent with it."""
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **WEBSOCKET_HEADERS}.items())
    writer.write(f"GET / HTTP/1.1\r\n{head}\r\n".encode() + behind)
    async with asyncio.timeout(SOON):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in answer.splitlines()[0]
    return reader, writer


def of_aiohttp() -> list[object]:
    gc.collect()
    return [item for item in gc.get_objects() if isinstance(item, RequestHandler | web.BaseRequest)]


async def test_the_objects_of_aiohttp_are_freed() -> None:
    """Request, protocol and tasks are freed while the WebSocket goes on."""
    assert of_aiohttp() == [], "other tests have left something"
    async with EchoServer() as server:
        before = len(asyncio.all_tasks())
        async with connect(f"ws://{server.address}/", compression=None, ping_interval=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            assert of_aiohttp() == []
            assert server.runner.server is not None
            assert server.runner.server.connections == []
            of_client = 1  # the keepalive task of the client library, where it has one
            assert len(asyncio.all_tasks()) <= before + of_client
            await client.send(b"still here")
            assert await client.recv() == b"still here"
        assert server.echoes[0].ended == 1000


async def test_frames_sent_with_the_handshake_are_not_lost() -> None:
    """Of a client that does not wait for the response, every frame is received."""
    async with EchoServer() as server:
        reader, writer = await hand_shaken(server, b"\x81\x85\0\0\0\0early" + b"\x81\x84\0\0\0\0bird")
        async with asyncio.timeout(SOON):
            assert await reader.readexactly(13) == b"\x81\x05early\x81\x04bird"
        writer.close()


async def test_a_handshake_with_a_body_is_refused() -> None:
    """RFC 9110 allows a GET to have one, but its bytes would be read as frames."""
    async with EchoServer() as server:
        answer = await request("GET", f"http://{server.address}/", headers=WEBSOCKET_HEADERS, data=b"x" * 100)
        assert (answer.status, answer.text) == (400, "a handshake has no body")


async def test_a_stream_ends_without_a_close_frame_of_the_client() -> None:
    """A reset connection ends its stream with 1006."""
    async with EchoServer() as server:
        client = await connect(f"ws://{server.address}/", ping_interval=None)
        await client.send("x")
        await client.recv()
        client.transport.abort()
        await until(lambda: server.echoes[0].ended is not None)
        assert server.echoes[0].ended == 1006


@pytest.mark.parametrize("last_words", [b"\xc1\x80\0\0\0\0", b"\x88\x80\0\0\0\0"], ids=["violation", "goodbye"])
async def test_a_closing_client_that_reads_nothing_is_disconnected(
    last_words: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that violates the protocol or closes, and does not read what was sent, holds no socket for long."""
    monkeypatch.setattr("gateway.servers.websocket.stream.CLOSE_TIMEOUT", 0.2)
    async with EchoServer() as server:
        _, writer = await hand_shaken(server)
        writer.transport.pause_reading()
        server.echoes[0].stream.write(binary_frame(bytes(20_000_000)))
        writer.write(last_words)
        await until(lambda: not server.echoes[0].stream.unsent())
        writer.transport.abort()


async def test_messages_before_a_violation_get_their_replies() -> None:
    """A client that violates the protocol gets the reason after the replies to what was right."""
    async with EchoServer() as server:
        client = await connect(f"ws://{server.address}/", ping_interval=None)
        await client.send("fine")
        client.transport.write(b"\xc1\x80\0\0\0\0")
        assert await client.recv() == "fine"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1002
        assert server.echoes[0].ended == 1006


async def test_pongs_are_reported_and_pings_get_a_pong() -> None:
    """Without any code of the listener."""
    async with EchoServer() as server, connect(f"ws://{server.address}/", ping_interval=None) as client:
        async with asyncio.timeout(SOON):
            await (await client.ping(b"are you there"))
            await client.pong()
            await client.send("x")
            await client.recv()
        assert server.echoes[0].pongs == 1


async def test_many_messages_are_spread_over_event_loop_iterations() -> None:
    """What arrives at once is handled completely, in parts, between which others are served."""
    async with EchoServer() as server, connect(f"ws://{server.address}/", compression=None) as client:
        await client.send("here")
        await client.recv()
        echo = server.echoes[0]
        echo.stream.data_received(b"\x8a\x80\0\0\0\0" * 10 * MAX_AT_ONCE)
        assert echo.pongs == MAX_AT_ONCE
        async with asyncio.timeout(SOON):
            while echo.pongs < 10 * MAX_AT_ONCE:  # noqa: ASYNC110 (event-loop iterations, no time)
                await asyncio.sleep(0)
        await client.send("still here")
        assert await client.recv() == "still here"


# --- what may follow what


@pytest.mark.parametrize("kind", [stream.StreamState, state.EngineState])
def test_states_change_only_as_their_table_allows(kind: type[Enum]) -> None:
    """Each state has its changes, what is closed stays so, and any other change is a bug."""
    module = stream if kind is stream.StreamState else state
    owner = WebSocketStream if module is stream else EngineSocket
    table: dict[Any, set[Any]] = module.CHANGES  # type: ignore[assignment]
    assert set(table) == set(kind)
    assert [state for state in kind if not table[state]] == [list(kind)[-1]]
    for before in kind:
        for after in kind:
            changed = object.__new__(owner)
            changed.state = before  # type: ignore[assignment]
            if after in table[before]:
                changed._change(after)  # type: ignore[arg-type]
                assert changed.state is after
            else:
                with pytest.raises(RuntimeError, match=f"{before.name} to {after.name}"):
                    changed._change(after)  # type: ignore[arg-type]


async def test_the_end_of_a_stream_is_reported_once() -> None:
    """Whatever comes after it: another close, an error, or the loss of the transport."""
    for ends in itertools.permutations(["close", "fail", "connection_lost"]):
        calls: list[int] = []
        one = WebSocketStream(RecordingListener(calls), max_size=100)
        for end in ends:
            getattr(one, end)(*([None] if end == "connection_lost" else [1000]))
        assert calls == [1006]
        assert one.state is stream.StreamState.ENDED


class RecordingListener:
    """A `Listener` that notes the end."""

    def __init__(self, calls: list[int]) -> None:
        self._calls = calls

    def message_received(self, message: Message) -> None: ...
    def pong_received(self) -> None: ...
    def too_slow(self) -> None: ...

    def describe(self) -> dict[str, object]:
        return {}

    def stream_ended(self, code: int) -> None:
        self._calls.append(code)
