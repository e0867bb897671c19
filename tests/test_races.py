"""Many clients want the same thing at once: exactly one gets it, every time."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import pytest

from harness.client import RefusedError, make_room, succeed
from harness.http import WEBSOCKET_HEADERS
from harness.names import fresh_name
from harness.plain import BareClient, JsonClient, Wire, websocket_url
from harness.raw import RawSocketIO
from harness.stock import TRANSPORTS, SocketIOClient

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway

ALL_WIRES = ["json", "socketio-websocket", "bare", "socketio-polling"]


class Race:
    """Logs many clients in at the same moment."""

    def __init__(self, gateway: GatewayProcess, driver: Driver) -> None:
        self.gateway = gateway
        self.driver = driver

    def runner(self, wire: str, username: str) -> JsonClient | BareClient | SocketIOClient:
        if wire == "json":
            return JsonClient(self.gateway.url, username)
        if wire == "bare":
            return BareClient(self.gateway.url, username)
        return SocketIOClient(self.driver, self.gateway.url, username, transports=TRANSPORTS[wire])

    async def run(self, username: str, wires: list[str], stack: AsyncExitStack) -> list[Any]:
        """The winners, who stay until `stack` is closed; every other one got `username_taken`."""

        async def login(wire: str) -> Any:
            try:
                return await stack.enter_async_context(self.runner(wire, username))
            except RefusedError as refusal:
                if refusal.code != "username_taken":
                    raise
                return None

        return [winner for winner in await asyncio.gather(*map(login, wires)) if winner is not None]


@pytest.fixture
def race(gateway: GatewayProcess, driver: Driver) -> Race:
    return Race(gateway, driver)


@pytest.mark.parametrize("first", ALL_WIRES)
async def test_of_two_clients_that_race_for_a_name_one_wins(race: Race, first: str) -> None:
    """Over every pair of wires, round after round, exactly one gets in, and its session works."""
    for number in range(24):
        wires = [first, ALL_WIRES[number % len(ALL_WIRES)]]
        async with AsyncExitStack() as stack:
            winners = await race.run(fresh_name(), wires, stack)
            assert len(winners) == 1, wires
            assert await winners[0].drain() == []


class PlainRacer:
    """Asks for names on the plain wire, each on a connection of its own."""

    def __init__(self, gateway: GatewayProcess, query: str) -> None:
        self._gateway = gateway
        self._query = query
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def claim(self, username: str) -> str | None:
        """Ask for a name; why it was refused, or None: then it is held until `leave`."""
        address = urlsplit(self._gateway.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        headers = "".join(f"{name}: {value}\r\n" for name, value in WEBSOCKET_HEADERS.items())
        writer.write(f"GET /username/{username}{self._query} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("http/1.1 101 "):
            self._writer = writer
            return None
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        error = json.loads(await reader.readexactly(length))["error"]
        writer.close()
        assert head.startswith("http/1.1 409 "), head
        return str(error["code"])

    async def leave(self) -> None:
        if self._writer is not None:
            self._writer.write(b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big"))
            self._writer.close()
            self._writer = None


class StockRacer:
    """Asks for names on one WebSocket, with Socket.IO's packets CONNECT and DISCONNECT."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._raw = RawSocketIO(gateway.url)
        self._holds = False

    async def __aenter__(self) -> Self:
        await self._raw.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._raw.__aexit__()

    async def claim(self, username: str) -> str | None:
        """Ask for a name; why it was refused, or None: then it is held until `leave`."""
        reply = await self._raw.connect({"username": username})
        self._raw.frames.take_all()
        self._raw.frames.log.clear()
        self._holds = reply.startswith("40")
        return None if self._holds else str(json.loads(reply[2:])["data"]["code"])

    async def leave(self) -> None:
        if self._holds:
            self._holds = False
            await self._raw.send("41")


Racer = PlainRacer | StockRacer
RACES = 10_000
LANES = 10
"""Pairs that race at the same time, each for names of its own."""


@pytest.mark.parametrize("wires", ["stock-stock", "plain-stock", "plain-plain", "json-stock"])
async def test_one_client_wins_each_of_many_races_for_a_name(gateway: GatewayProcess, wires: str) -> None:
    """Ten thousand times together, each time exactly one gets in, and the other gets `username_taken`."""

    def racer(wire: str) -> Racer:
        return StockRacer(gateway) if wire == "stock" else PlainRacer(gateway, "?format=json" * (wire == "json"))

    async def race(rounds: int) -> None:
        first, second = map(racer, wires.split("-"))
        async with first, second:
            for number in range(rounds):
                name = fresh_name()
                pair = (first, second) if number % 2 else (second, first)  # neither is always a step ahead
                replies = await asyncio.gather(*(each.claim(name) for each in pair))
                assert sorted(replies, key=str) == [None, "username_taken"]
                await asyncio.gather(first.leave(), second.leave())

    await asyncio.gather(*(race(RACES // 4 // LANES) for _ in range(LANES)))


async def test_of_fifty_clients_that_race_for_a_name_one_wins(race: Race) -> None:
    """Fifty at once over all wires: one gets in, 49 get `username_taken`."""
    for _ in range(6):
        async with AsyncExitStack() as stack:
            winners = await race.run(fresh_name(), [ALL_WIRES[number % 4] for number in range(50)], stack)
            assert len(winners) == 1
            assert await winners[0].drain() == []


@pytest.fixture
async def claimable(start_gateway: StartGateway, driver: Driver) -> Race:
    """Where suspended names are not reserved."""
    return Race(await start_gateway(reserve_names=0), driver)


async def test_of_many_claims_to_a_suspended_name_one_wins(claimable: Race, join: Join) -> None:
    """When a suspended session's name is claimed by many, one gets it, and the old session ends once."""
    race, own = claimable, claimable.gateway
    witness = await join(to=own)
    for _ in range(6):
        client = await join("json", to=own)
        room = await make_room(witness, client)
        await client.drop()
        await witness.next_event("presence")
        async with AsyncExitStack() as stack:
            winners = await race.run(client.username, ALL_WIRES * 3, stack)
            assert len(winners) == 1
            left = await witness.next_event("user-left")
            assert left.fields == {"room": room, "username": client.username}
            assert await witness.drain() == []


async def test_of_many_resumes_one_keeps_the_session(gateway: GatewayProcess, join: Join) -> None:
    """Several connections bring the same pid at once: one is left, the others are closed with 4001."""
    bob = await join()
    for _ in range(5):
        client = await join("json")
        room = await make_room(bob, client)
        query = urlencode({"format": "json", "pid": client.pid, "offset": client.offset})
        url = f"{websocket_url(gateway.url)}/username/{client.username}?{query}"
        async with AsyncExitStack() as stack:
            others = [Wire(url, f"rival {number}") for number in range(8)]
            await asyncio.gather(*map(stack.enter_async_context, others))
            everybody: list[Wire] = [client, *others]
            await succeed(bob, "send-msg", room=room, content="who is it")
            replies = await asyncio.gather(*map(receive_or_close, everybody))
            assert sorted(replies, key=str) == [4001] * 8 + ["who is it"]


async def receive_or_close(wire: Wire) -> str | int | None:
    """The message that the connection gets, or the code that it is closed with."""
    try:
        frame = await wire.frames.take(lambda frame: '"event":"message"' in str(frame), "the message")
    except AssertionError:
        return await wire.wait_closed()
    return str(json.loads(frame)["content"])


@pytest.mark.parametrize("reserved", [True, False])
async def test_a_resume_and_a_claim_that_race_have_one_winner(
    race: Race, claimable: Race, join: Join, reserved: bool
) -> None:
    """The owner returns while others claim the name: one session is left, the owner's where the name is reserved, and
    the owner gets the right reply.
    """
    race = race if reserved else claimable
    own = race.gateway
    for _ in range(10):
        bob, client = await join(to=own), await join("json", to=own)
        room = await make_room(bob, client)
        await client.drop()
        await bob.next_event("presence")

        async def come_back(lost: JsonClient = client) -> JsonClient | None:
            query = {"pid": lost.pid, "offset": lost.offset}
            try:
                return await join("json", lost.username, to=own, query=query)
            except RefusedError as refusal:
                if refusal.code != "username_taken":
                    raise
                return None

        async with AsyncExitStack() as stack:
            owner, winners = await asyncio.gather(come_back(), race.run(client.username, ["json"] * 3, stack))
            holders = [holder for holder in [owner, *winners] if holder is not None]
            assert len(holders) == 1
            assert owner is not None or not reserved
            resumed = owner is not None and owner.welcome.fields["recovered"]
            reply = await succeed(bob, "list-members", room=room)
            assert reply["member_count"] == (2 if resumed else 1)


async def test_of_two_clients_that_create_a_room_one_wins(join: Join) -> None:
    """One creates it, the others get `room_exists`; the room has one member."""
    rivals: list[ChatClient] = [await join(wire) for wire in ("json", "socketio-websocket", "socketio-polling", "json")]
    for _ in range(30):
        room = fresh_name("room")
        replies = await asyncio.gather(*(rival.call("create-room", room=room) for rival in rivals))
        won = [rival for rival, reply in zip(rivals, replies, strict=True) if reply["ok"]]
        assert len(won) == 1
        assert all(reply["ok"] or reply["error"]["code"] == "room_exists" for reply in replies)
        reply = await succeed(won[0], "list-members", room=room)
        assert [member["username"] for member in reply["members"]] == [won[0].username]
        await succeed(won[0], "leave-room", room=room)


async def test_a_limit_holds_when_many_add_at_once(start_gateway: StartGateway, join: Join) -> None:
    """Members who add different users at the same moment never fill a room beyond --max-members."""
    own = await start_gateway(max_members=6)
    hosts: list[ChatClient] = [await join(wire, to=own) for wire in ("json", "socketio-websocket", "json")]
    guests = [await join(to=own) for _ in range(9)]
    for _ in range(10):
        room = await make_room(hosts[0], *hosts[1:])
        adding = [
            hosts[number % 3].call("add-user", room=room, users=[guest.username]) for number, guest in enumerate(guests)
        ]
        replies = await asyncio.gather(*adding)
        assert sum(reply["ok"] for reply in replies) == 3
        assert all(reply["ok"] or reply["error"]["code"] == "limit_reached" for reply in replies)
        assert (await succeed(hosts[0], "list-members", room=room))["member_count"] == 6


async def test_a_user_added_by_two_members_at_once_joins_once(join: Join) -> None:
    """One adds, the other gets `already`; the user receives one room-joined."""
    alice, bob = await join("json"), await join("socketio-websocket")
    for _ in range(20):
        carol = await join()
        room = await make_room(alice, bob)
        replies = await asyncio.gather(
            *(host.call("add-user", room=room, users=[carol.username]) for host in (alice, bob))
        )
        assert sorted(len(reply["added"]) for reply in replies) == [0, 1]
        assert sorted(len(reply["already"]) for reply in replies) == [0, 1]
        assert [event.name for event in await carol.drain()] == ["room-joined"]


async def test_a_room_ends_when_its_last_two_members_leave_at_once(join: Join) -> None:
    """The room ends, no matter who was last, and the name is free."""
    alice, bob = await join("json"), await join("socketio-websocket")
    for _ in range(20):
        room = await make_room(alice, bob)
        replies = await asyncio.gather(*(member.call("leave-room", room=room) for member in (alice, bob)))
        assert [reply["ok"] for reply in replies] == [True, True]
        await succeed(alice, "create-room", room=room)
        await succeed(alice, "leave-room", room=room)


async def test_logins_and_logouts_of_one_name_alternate(race: Race) -> None:
    """Clients that keep logging in and out as one name are never in together and never locked out for good."""
    name = fresh_name()
    inside: set[int] = set()

    async def come_and_go(number: int, wire: str) -> None:
        for _ in range(15):
            try:
                async with race.runner(wire, name) as client:
                    assert not inside, inside
                    inside.add(number)
                    await client.drain()
                    inside.discard(number)
                    await client.leave()
            except RefusedError as refusal:
                if refusal.code != "username_taken":
                    raise

    await asyncio.gather(*(come_and_go(number, wire) for number, wire in enumerate(["json", "bare"] * 3)))
    async with race.runner("bare", name) as client:
        assert await client.drain() == []
