"""A connection that is closed holds nothing and claims nothing, at whatever stage of its log-in it was."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from harness.client import RefusedError, make_room, succeed
from harness.http import WEBSOCKET_HEADERS, request
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.raw import open_polling
from harness.stock import TRANSPORTS
from harness.syncs import HeldSyncs
from harness.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness.client import ChatClient, Join
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway

STAGES = ["at once", "open", "connect", "talk", *range(12)]
"""When a client of `Driver` gives up; see ``flicker`` in driver.mjs."""

ROUNDS = 600
LANES = 8


async def flicker(driver: Driver, gateway: GatewayProcess, name: str, when: str | int, wire: str, **auth: str) -> None:
    """The stock client logs in and gives up."""
    options = {"transports": TRANSPORTS[wire], "auth": {"username": name, **auth}}
    await driver.call({"do": "flicker", "url": gateway.url, "options": options, "when": when})


async def drop_plain(gateway: GatewayProcess, name: str, query: str, *, read: int, after: float = 0.0) -> None:
    """Ask for a WebSocket of the plain wire, read ``read`` bytes of the reply and, ``after`` that many seconds, at some
    moment of the log-in, close the connection.
    """
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    headers = "".join(f"{field}: {value}\r\n" for field, value in WEBSOCKET_HEADERS.items())
    writer.write(f"GET /username/{name}{query} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n".encode())
    if read:
        head = await reader.readexactly(read)
        assert head.startswith(b"HTTP/1.1 101 "), head
    await asyncio.sleep(after)  # what the test is about: a client gives up
    writer.close()


async def is_known(witness: ChatClient, name: str) -> bool:
    """Whether the store has a session of that name, live or suspended."""
    room = fresh_name("room")
    reply = await witness.call("create-room", room=room, users=[name])
    if reply["ok"]:
        await succeed(witness, "leave-room", room=room)
    return bool(reply["ok"])


async def is_online(witness: ChatClient, room: str, name: str) -> bool:
    """Whether a member is; it must be one."""
    (member,) = [m for m in (await succeed(witness, "list-members", room=room))["members"] if m["username"] == name]
    return bool(member["online"])


async def forgotten(witness: ChatClient, *names: str) -> None:
    """Wait until nobody has a session."""
    for name in names:

        async def is_forgotten(name: str = name) -> bool:
            return not await is_known(witness, name)

        await poll_until(is_forgotten)


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling", "socketio-polling-only"])
async def test_a_client_that_reconnects_quickly_does_not_block_itself(
    start_gateway: StartGateway, join: Join, driver: Driver, wire: str
) -> None:
    """600 times: log in, give up at some stage, and log in again at once. The name is never taken."""
    own = await start_gateway(on_disk=True)
    witness = await join(to=own)

    async def lane(name: str) -> None:
        for number in range(ROUNDS // LANES):
            await flicker(driver, own, name, STAGES[number % len(STAGES)], wire)
            await flicker(driver, own, name, "connect", wire)

    names = [fresh_name() for _ in range(LANES)]
    await asyncio.gather(*map(lane, names))
    await forgotten(witness, *names)


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling", "socketio-polling-only"])
async def test_an_abandoned_log_in_leaves_nothing(
    start_gateway: StartGateway, join: Join, driver: Driver, wire: str
) -> None:
    """Not even a suspended session: nobody could resume it, and its name would be lost to its owner."""
    own = await start_gateway(on_disk=True)
    witness = await join(to=own)
    names = [fresh_name() for _ in range(10 * len(STAGES))]
    gone = [flicker(driver, own, name, STAGES[number % len(STAGES)], wire) for number, name in enumerate(names)]
    await asyncio.gather(*gone)
    await forgotten(witness, *names)


@pytest.mark.parametrize("query", ["", "?format=json"])
async def test_a_plain_client_that_disconnects_during_the_handshake_holds_no_name(
    start_gateway: StartGateway, join: Join, query: str
) -> None:
    """It has claimed nothing, so that the next one with its name gets in: also where its reply was sent meanwhile."""
    own = await start_gateway(on_disk=True)
    witness = await join(to=own)

    async def lane(name: str) -> None:
        for _ in range(ROUNDS // LANES):
            await drop_plain(own, name, query, read=0)
            again = await join("json", name, to=own)
            await again.leave()

    names = [fresh_name() for _ in range(LANES)]
    await asyncio.gather(*map(lane, names))
    await forgotten(witness, *names)


async def test_a_client_that_gives_up_waiting_does_not_block_the_next(gateway: GatewayProcess) -> None:
    """Two wait for a holder that leaves, on long-polling; the one that gets the name leaves too: the other has it."""
    name = fresh_name()
    holder, *waiting = [await open_polling(gateway.url) for _ in range(3)]
    await request("POST", holder, data=f'40{{"username":"{name}"}}')
    assert '42["welcome"' in (await request("GET", holder)).text
    responses = []
    for url in waiting:
        await request("POST", url, data=f'40{{"username":"{name}"}}')
        responses.append(asyncio.create_task(request("GET", url)))
    await request("POST", holder, data="41")
    done, (late,) = await asyncio.wait(responses, return_when=asyncio.FIRST_COMPLETED)
    (first,) = done
    assert first.result().text.startswith("40{")
    await request("POST", waiting[responses.index(first)], data="41")
    assert (await late).text.startswith("40{")
    await request("POST", waiting[responses.index(late)], data="41")


class HungDisk:
    """A gateway with a client, whose disk hangs until `release`."""

    def __init__(self, gateway: GatewayProcess, syncs: HeldSyncs, witness: ChatClient, room: str) -> None:
        self.gateway = gateway
        self.witness = witness
        self.room = room
        self._syncs = syncs
        self._talking: list[asyncio.Task[Any]] = []

    async def hold(self) -> None:
        self._syncs.hold()
        self._talking.append(asyncio.create_task(succeed(self.witness, "send-msg", room=self.room, content="x")))
        async with asyncio.timeout(TIMEOUT):
            await self._syncs.came.wait()

    async def release(self) -> None:
        self._syncs.release()
        await asyncio.gather(*self._talking)


@pytest.fixture
async def hung_disk(start_gateway: StartGateway, join: Join) -> AsyncIterator[HungDisk]:
    if sys.platform != "linux":
        pytest.skip("holds system calls back as Linux can")
    syncs = HeldSyncs()
    with contextlib.closing(syncs):
        own = await start_gateway(on_disk=True, syncs=syncs)
        witness = await join(to=own)
        yield HungDisk(own, syncs, witness, await make_room(witness))
        await own.stop()


async def test_a_client_that_retries_while_the_disk_hangs_gets_in_once_it_works(
    hung_disk: HungDisk, join: Join, driver: Driver
) -> None:
    """However often a client tries and gives up meanwhile: when the disk works again, it gets in."""
    own, names = hung_disk.gateway, {wire: fresh_name() for wire in ("bare", "json", "stock")}
    await hung_disk.hold()
    for _ in range(8):
        await drop_plain(own, names["bare"], "", read=0, after=0.03)
        await drop_plain(own, names["json"], "?format=json", read=0, after=0.03)
        await flicker(driver, own, names["stock"], 5, "socketio-websocket")
    coming = [asyncio.create_task(join("json", name, to=own)) for name in names.values()]
    await own.has_read_everything()
    await hung_disk.release()
    for client in await asyncio.gather(*coming):
        assert client.welcome.fields["recovered"] is False
        await client.leave()
    await forgotten(hung_disk.witness, *names.values())


async def test_a_resume_that_is_interrupted_leaves_the_session_suspended(
    hung_disk: HungDisk, join: Join, driver: Driver
) -> None:
    """Its client can still come back to it, and has lost nothing. An invalid pid claims nothing."""
    own, witness = hung_disk.gateway, hung_disk.witness
    client = await join("json", to=own)
    room = await make_room(witness, client)
    resume = {"pid": client.pid, "offset": client.offset}
    await client.drop()
    await witness.next_event("presence")
    await succeed(witness, "send-msg", room=room, content="missed")
    stranger = fresh_name()
    for held in (True, False):
        if held:
            await hung_disk.hold()
        for _ in range(3):
            await drop_plain(own, client.username, f"?{urlencode({'format': 'json', **resume})}", read=0, after=0.03)
            await flicker(driver, own, client.username, 5, "socketio-websocket", **resume)
            await drop_plain(own, stranger, "?format=json&pid=x", read=0, after=0.03)
        if held:
            await hung_disk.release()
    await forgotten(witness, stranger)

    async def is_offline() -> bool:
        return not await is_online(witness, room, client.username)

    await poll_until(is_offline)
    back = await join("json", client.username, to=own, query=resume)
    assert (back.welcome.fields["recovered"], len(back.welcome.fields["rooms"])) == (True, 1)
    assert (await back.next_event("message")).fields["content"] == "missed"


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling", "json", "bare"])
async def test_a_log_in_fails_when_the_store_does_not_respond(hung_disk: HungDisk, join: Join, wire: str) -> None:
    """After five seconds it is `unavailable`, and when the disk works again, nothing is left of it."""
    name = fresh_name()
    await hung_disk.hold()
    began = time.monotonic()
    with pytest.raises(RefusedError) as refusal:
        await join(wire, name, to=hung_disk.gateway)
    assert 4 < time.monotonic() - began < 8
    assert refusal.value.code == "unavailable"
    assert refusal.value.status == (None if wire.startswith("socketio") else 503)
    await hung_disk.release()
    await forgotten(hung_disk.witness, name)
    await join(wire, name, to=hung_disk.gateway)


async def test_messages_sent_before_leaving_are_kept(join: Join) -> None:
    """What a client sent before it left is delivered, and its name is free at once."""
    witness = await join()
    for _ in range(20):
        client = await join("socketio-websocket")
        room = await make_room(witness, client)
        for number in range(10):
            await client.emit_without_ack("send-msg", {"room": room, "content": str(number)})
        await client.leave()
        received = [(await witness.next_event("message")).fields["content"] for _ in range(10)]
        assert received == [str(number) for number in range(10)]
        assert (await witness.next_event("user-left")).fields["username"] == client.username
        await join("json", client.username)
