"""A connection is counted while its transport exists, and one that is in no namespace is closed soon."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from harness.client import Join, RefusedError, make_room, succeed
from harness.http import request
from harness.names import fresh_name
from harness.plain import Wire, websocket_url
from harness.process import GatewayProcess, StartGateway
from harness.raw import ENGINE, RawSocketIO
from harness.waiting import poll_until

IN_TIME = 8.0
"""Seconds within which a client that is in no namespace is gone; it has five."""


async def log_in(url: str) -> RawSocketIO:
    raw = await RawSocketIO(url).__aenter__()
    assert (await raw.connect({"username": fresh_name()})).startswith("40")
    return raw


class PollingClient:
    """Long-polling by hand: each call is one request."""

    def __init__(self, url: str) -> None:
        self._base = f"{url}{ENGINE}&transport=polling"

    async def open(self) -> int:
        response = await request("GET", self._base)
        if response.status == 200:
            self._base += f"&sid={json.loads(response.text[1:])['sid']}"
        return response.status

    async def post(self, *packets: str) -> int:
        return (await request("POST", self._base, data="\x1e".join(packets))).status

    async def is_gone(self) -> bool:
        return await self.post("3") != 200

    async def poll(self) -> list[str]:
        response = await request("GET", self._base)
        return response.text.split("\x1e") if response.status == 200 else [str(response.status)]


async def test_leaving_the_namespace_frees_no_seat(start_gateway: StartGateway) -> None:
    """A client that leaves the namespace and keeps the socket counts until it is closed, which it is in time."""
    own = await start_gateway(max_connections=3)
    lurkers = [await log_in(own.url) for _ in range(2)]
    poller = PollingClient(own.url)
    assert await poller.open() == 200
    assert await poller.post(f'40{{"username":"{fresh_name()}"}}') == 200
    for lurker in lurkers:
        await lurker.send("41")
    await poller.post("41")
    async with RawSocketIO(own.url) as late:
        assert '"limit_reached"' in await late.connect({"username": fresh_name()})
    with pytest.raises(RefusedError) as refusal:
        await Wire(f"{websocket_url(own.url)}/username/{fresh_name()}?format=json", "late").__aenter__()
    assert refusal.value.code == "limit_reached"
    async with asyncio.timeout(IN_TIME):
        for lurker in lurkers:
            await lurker.wait_closed()
        await poll_until(poller.is_gone)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            stack.push_async_exit(await log_in(own.url))


async def test_a_client_in_no_namespace_is_closed_each_time(gateway: GatewayProcess) -> None:
    """Also one that logs in and out: the timeout starts again at each log-out."""
    raw, other, name = await log_in(gateway.url), await log_in(gateway.url), fresh_name()
    loop = asyncio.get_running_loop()
    for _ in range(2):
        await raw.send("41")
        await asyncio.sleep(3)  # both times together are longer than a client has
        assert (await raw.connect({"username": name})).startswith("40")
    for leaving in (other, raw):  # the first one's time is that for which the second one is there
        since = loop.time()
        await leaving.send("41")
        async with asyncio.timeout(IN_TIME):
            await leaving.wait_closed()
        assert loop.time() - since > 4.5
        assert leaving is raw or is_ok(await raw.call_text('["list-rooms",{}]')), "a client in a namespace stays"


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_refused_log_in_does_not_extend_the_timeout(gateway: GatewayProcess, transport: str) -> None:
    """A client whose log-ins are refused again and again is closed as if it had sent nothing."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    async with AsyncExitStack() as stack:
        if transport == "websocket":
            raw = await stack.enter_async_context(RawSocketIO(gateway.url))
            with contextlib.suppress(AssertionError, ConnectionClosed):
                while loop.time() < since + IN_TIME:
                    assert '"invalid_username"' in await raw.connect({"username": "No"})
                    await asyncio.sleep(0.5)  # again and again, and not as fast as it can
            assert raw.closed
        else:
            poller = PollingClient(gateway.url)
            await poller.open()
            while loop.time() < since + IN_TIME and await poller.post('40{"username":"No"}') == 200:
                await poller.poll()
                await asyncio.sleep(0.5)  # again and again, and not as fast as it can
    assert 4.5 < loop.time() - since < IN_TIME


@pytest.mark.parametrize("kind", ["idle WebSockets", "idle polling", "plain sockets that wait"])
async def test_transports_count_before_they_log_in(start_gateway: StartGateway, join: Join, kind: str) -> None:
    """Each kind of connection takes a seat from its first moment, and gives it back with its last."""
    own = await start_gateway(max_connections=2)
    url = websocket_url(own.url)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            if kind == "idle WebSockets":
                await stack.enter_async_context(RawSocketIO(own.url))
            elif kind == "idle polling":
                assert await PollingClient(own.url).open() == 200
            else:
                await stack.enter_async_context(Wire(f"{url}/username/{fresh_name()}?format=json&resume", "waits"))
        with pytest.raises(RefusedError) as refusal:
            await join("json", to=own)
        assert refusal.value.code == "limit_reached"

    async def gets_in() -> bool:
        with contextlib.suppress(RefusedError):
            await join("json", to=own)
            return True
        return False

    await poll_until(gets_in, IN_TIME)


async def test_beyond_all_seats_a_connection_is_refused_at_once(start_gateway: StartGateway) -> None:
    """A few are accepted beyond the limit, to be refused on their own wire; not any number of them."""
    own = await start_gateway(max_connections=1)
    async with AsyncExitStack() as stack:
        for _ in range(101):
            await stack.enter_async_context(RawSocketIO(own.url))
        with pytest.raises(RefusedError) as refusal:
            await RawSocketIO(own.url).__aenter__()
        assert refusal.value.status == 503
        assert await PollingClient(own.url).open() == 503


async def test_a_seat_is_freed_however_the_connection_ends(start_gateway: StartGateway, join: Join) -> None:
    """Refused names, refused logins, drops, leavings and upgrades: afterwards as many get in as before."""
    own = await start_gateway(max_connections=3)
    first = await join(to=own)
    for wire in ("json", "bare", "socketio-websocket", "socketio-polling-only"):
        for name in ("X!", first.username):
            with pytest.raises(RefusedError):
                await join(wire, name, to=own)
        client: Any = await join(wire, to=own)
        await client.drop()
    upgraded = await join("socketio-polling", to=own)
    await upgraded.wait_for_transport("websocket")
    await upgraded.leave()

    async def gets_in() -> bool:
        with contextlib.suppress(RefusedError):
            await join("json", to=own)
            return True
        return False

    for _ in range(2):
        await poll_until(gets_in)
    with pytest.raises(RefusedError):
        await join("json", to=own)


# --- log-outs, log-ins and calls in one read

Send = Callable[..., Awaitable[list[str]]]


@asynccontextmanager
async def websocket(url: str) -> AsyncIterator[Send]:
    """Sends packets in one write; returns what comes back until the last has its reply, or the connection is closed."""
    async with RawSocketIO(url) as raw:

        async def send(*packets: str) -> list[str]:
            data = b"".join(_masked(packet.encode()) for packet in packets)
            raw.socket.transport.write(data)
            received: list[str] = []
            with contextlib.suppress(AssertionError):  # it is closed
                while packets != LEAVE and not has_reply_to(packets[-1], received):
                    received.append(str(await raw.next_frame()))
            return received + ["closed"] * raw.closed

        yield send


@asynccontextmanager
async def polling(url: str) -> AsyncIterator[Send]:
    """The same in one long-polling body."""
    client = PollingClient(url)
    await client.open()

    async def send(*packets: str) -> list[str]:
        await client.post(*packets)
        received = [] if packets == LEAVE else await client.poll()
        if not received:
            return received
        while packets[-1] == ASK and received[-1] not in {"1", "400"} and not is_acked(received):
            received += await client.poll()
        if received[-1] in {"1", "400"}:
            return [*received[:-1], "closed"]
        if (await client.post("3")) != 200:
            return [*received, "closed"]
        return received

    yield send


def _masked(payload: bytes) -> bytes:
    return bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big") + bytes(4) + payload


ASK = '427["list-rooms",{}]'
LEAVE = ("41",)
"""Which has no reply."""

AT_ONCE = 4.0
"""Seconds within which a client that calls without a session is closed: less than a silent one has."""


@pytest.fixture(params=[websocket, polling])
async def send(request: pytest.FixtureRequest, gateway: GatewayProcess) -> AsyncIterator[Send]:
    async with request.param(gateway.url) as send_packets:

        async def send_at_once(*packets: str) -> list[str]:
            async with asyncio.timeout(AT_ONCE):
                return list(await send_packets(*packets))

        yield send_at_once


def is_acked(received: list[str]) -> bool:
    return any(packet.startswith('437[{"ok":true') for packet in received)


def has_reply_to(packet: str, received: list[str]) -> bool:
    """An event is acked; CONNECT is refused, or followed by `welcome`."""
    if packet == ASK:
        return is_acked(received)
    return any(frame.startswith(("44", '42["welcome"')) for frame in received)


def is_ok(ack: str) -> bool:
    return '[{"ok":true' in ack


async def test_leave_log_in_and_call_in_one_write(send: Send) -> None:
    """The event is acked by the new session."""
    name = fresh_name()
    assert any(packet.startswith("40") for packet in await send(f'40{{"username":"{name}"}}'))
    received = await send("41", f'40{{"username":"{name}"}}', ASK)
    assert is_acked(received), received
    assert is_acked(await send(ASK))


async def test_log_in_and_call_in_one_write(send: Send) -> None:
    assert is_acked(await send(f'40{{"username":"{fresh_name()}"}}', ASK))


@pytest.mark.parametrize("packets", [["41", ASK], [ASK]], ids=["left", "gone"])
async def test_a_call_without_a_session_closes_the_connection(send: Send, packets: list[str]) -> None:
    """An event of a client that is in no namespace closes it: it is not left waiting."""
    await send(f'40{{"username":"{fresh_name()}"}}')
    if packets == [ASK]:
        await send(*LEAVE)
    received = await send(*packets)
    assert "closed" in received, received


async def test_a_call_before_the_log_in_closes_the_connection(send: Send) -> None:
    """Closed likewise: what follows cannot be a log-in."""
    received = await send(ASK, f'40{{"username":"{fresh_name()}"}}')
    assert "closed" in received, received
    assert not is_acked(received)


async def test_two_log_ins_in_one_write_close_the_connection(send: Send) -> None:
    """A second CONNECT violates the protocol."""
    name = fresh_name()
    assert "closed" in await send(f'40{{"username":"{name}"}}', f'40{{"username":"{name}"}}', ASK)


async def test_a_call_after_a_refused_log_in_closes_the_connection(send: Send) -> None:
    """The client learns why, and that its event was not handled."""
    received = await send('40{"username":"NO!"}', ASK)
    assert any(packet.startswith("44") for packet in received), received
    assert "closed" in received, received


async def test_a_call_before_leaving_gets_its_ack(send: Send, join: Join) -> None:
    """The acks of the old session come before the new one begins."""
    name = fresh_name()
    await send(f'40{{"username":"{name}"}}')
    received = await send('421["list-rooms",{}]', "41", f'40{{"username":"{name}"}}', ASK)
    kinds = [packet[:3] for packet in received if packet[:2] in {"43", "40"}]
    assert kinds == ["431", "40{", "437"], received
    bob = await join()
    room = await make_room(bob)
    await succeed(bob, "add-user", room=room, users=[name])
