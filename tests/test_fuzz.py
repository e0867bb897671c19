"""Nonsense of every kind, on both wires: it gets a reply or a close, the gateway stays up, and others do not notice.

Every example ends with a look at a bystander pair in a room of its own: one sends, the other must receive it.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from harness.client import make_room, succeed
from harness.http import request
from harness.names import fresh_name
from harness.plain import BareClient, JsonClient, dump
from harness.process import GatewayProcess
from harness.raw import ENGINE, RawSocketIO
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness.node import Driver

ACTIONS = [
    "create-room",
    "add-user",
    "add-users",
    "send-msg",
    "leave-room",
    "list-rooms",
    "list-members",
    "history",
    "find-users",
    "typing",
]
RESERVED_EVENTS = {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
"""What the stock client itself refuses to send."""

FIELDS = ["room", "users", "content", "id", "limit", "after", "before", "prefix", "action", "ref", "event", "offset"]

# Unpaired surrogates included: JSON can carry them, most other things cannot.
text = st.text(st.characters(categories=["L", "N", "P", "S", "Z", "C", "Cs"]), max_size=40)
numbers = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([2**53, 2**64, -(2**63), 1e300])
)
scalars = st.none() | st.booleans() | numbers | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
ATTACKERS_ROOMS = ["room of json", "room of stock"]
known_room = st.sampled_from(ATTACKERS_ROOMS)
likely = {
    "room": known_room | text | values,
    "users": st.lists(st.sampled_from(["attacker", "nobody", ""]) | text, max_size=4) | values,
    "content": text | values,
    "id": st.sampled_from(["", "id", "x" * 65]) | text | values,
    "limit": st.integers(-2, 102) | values,
    "after": text | values,
    "before": text | values,
    "prefix": st.sampled_from(["", "a"]) | text | values,
}
payloads = st.fixed_dictionaries({}, optional=likely) | st.dictionaries(st.sampled_from(FIELDS) | text, values) | values
names = st.sampled_from(ACTIONS) | st.sampled_from(["message", "error", "welcome", "", "reply"]) | text

# No shrinking: an example that hangs takes half a minute each time it is tried, and examples are small anyway.
few = settings(
    max_examples=150,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class Arena:
    """A gateway, a bystander pair on two wires, and attackers that are replaced when they are closed."""

    def __init__(self, gateway: GatewayProcess, driver: Driver) -> None:
        self.gateway = gateway
        self.driver = driver
        self._stack = AsyncExitStack()
        self._bare: BareClient | None = None
        self._plain: JsonClient | None = None
        self._stock: SocketIOClient | None = None
        self._count = 0

    async def __aenter__(self) -> Self:
        self.alice = await self._stack.enter_async_context(JsonClient(self.gateway.url, fresh_name()))
        self.bob = await self._stack.enter_async_context(SocketIOClient(self.driver, self.gateway.url, fresh_name()))
        self.room = await make_room(self.alice, self.bob)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def check(self) -> None:
        """The bystanders still talk, nobody else is received in their room, and the gateway has had no accident."""
        self._count += 1
        for sender, listener in ((self.alice, self.bob), (self.bob, self.alice)):
            await succeed(sender, "send-msg", room=self.room, content=f"{self._count}")
            event = await listener.events.take(lambda _: True, "the other bystander's message")
            assert (event.name, event.fields["content"]) == ("message", f"{self._count}")
        assert self.gateway.running, self.gateway.log
        self.gateway.check_log()

    async def bare(self) -> BareClient:
        if self._bare is None or self._bare.closed:
            self._bare = await self._stack.enter_async_context(BareClient(self.gateway.url, fresh_name()))
        return self._bare

    async def plain(self) -> JsonClient:
        if self._plain is None or self._plain.closed:
            self._plain = await self._stack.enter_async_context(JsonClient(self.gateway.url, fresh_name()))
            await self._plain.call("create-room", room=ATTACKERS_ROOMS[0])
        return self._plain

    async def stock(self) -> SocketIOClient:
        if self._stock is None or not (await self._stock.state())["connected"]:
            client = SocketIOClient(self.driver, self.gateway.url, fresh_name(), transports=["websocket"])
            self._stock = await self._stack.enter_async_context(client)
            await self._stock.call("create-room", room=ATTACKERS_ROOMS[1])
        return self._stock


@pytest.fixture(scope="module")
async def arena(driver: Driver) -> AsyncIterator[Arena]:
    async with GatewayProcess() as gateway, Arena(gateway, driver) as arena:
        yield arena


def check_reply(reply: dict[str, Any]) -> None:
    assert isinstance(reply["ok"], bool), reply
    if not reply["ok"]:
        assert set(reply["error"]) <= {"code", "message", "fields", "retry_after"}, reply
        assert reply["error"]["code"] not in {"unavailable"}, reply


@few
@given(name=names, payload=payloads)
@example(name="send-msg", payload={"room": "\ud800", "content": "\udfff"})
@example(name="message", payload={"action": "\ud800"})
async def test_any_payload_of_any_action_gets_a_reply(arena: Arena, name: str, payload: Any) -> None:
    """Any JSON in any field of any action has a reply, and the connection goes on."""
    client = await arena.plain()
    fields = payload if isinstance(payload, dict) else {"payload": payload}
    reply = await client.call_with({**fields, "action": name})
    check_reply(reply)
    await client.drain()
    await arena.check()


@few
@given(payload=payloads)
async def test_any_json_as_a_plain_frame_gets_a_reply(arena: Arena, payload: Any) -> None:
    """Any JSON value as a whole frame gets one reply, in both forms, as text and as bytes."""
    plain, bare = await arena.plain(), await arena.bare()
    frame = dump(payload)
    for sent in (frame, frame.encode()):
        await plain.send(sent)
        await plain.replies.take(lambda _: True, "a reply")
        await bare.send(sent)
        reply = await bare.next_frame()
        assert type(reply) is type(sent)
        json.loads(reply)
    await plain.drain()
    assert await bare.drain() == []
    await arena.check()


@few
@given(frame=st.text(max_size=200) | st.binary(max_size=200))
@example(frame="[" * 100_000)
@example(frame='{"action":"send-msg","room":"\x00"}')
@example(frame=b"\xed\xa0\x80")
async def test_any_text_or_bytes_as_a_plain_frame_gets_a_reply(arena: Arena, frame: str | bytes) -> None:
    """Anything but JSON gets one reply too, in both forms."""
    plain, bare = await arena.plain(), await arena.bare()
    await plain.send(frame)
    check_reply(await plain.replies.take(lambda _: True, "a reply"))
    await bare.send(frame)
    reply = await bare.next_frame()
    assert type(reply) is type(frame)
    assert "error" in json.loads(reply)
    await arena.check()


@few
@given(name=names, arguments=st.lists(payloads, max_size=3))
@example(name="send-msg", arguments=[{"room": "\ud800", "content": "\udfff"}])
@example(name="\ud800", arguments=[])
async def test_any_event_of_the_stock_client_gets_a_reply(arena: Arena, name: str, arguments: list[Any]) -> None:
    """Every event name and every number of arguments is acked, and without an ack a failure is an `error` event."""
    assume(name not in RESERVED_EVENTS)
    client = await arena.stock()
    check_reply(await client.emit(name, *arguments))
    await client.emit_without_ack(name, *arguments)
    await client.drain()
    await arena.check()


def with_binary(value: Any, binary: Any) -> Any:
    """The value with every text in it replaced by a Buffer."""
    if isinstance(value, str):
        return binary
    if isinstance(value, list):
        return [with_binary(item, binary) for item in value]
    if isinstance(value, dict):
        return {key: with_binary(item, binary) for key, item in value.items()}
    return value


@few
@given(name=st.sampled_from(ACTIONS), payload=st.fixed_dictionaries({}, optional=likely), arguments=st.integers(1, 2))
async def test_binary_attachments_of_the_stock_client_get_a_reply(
    arena: Arena, name: str, payload: dict[str, Any], arguments: int
) -> None:
    """Buffers where JSON belongs are acked; more than the protocol allows close the connection."""
    client = await arena.stock()
    binary = [with_binary(payload, {"$bytes": "AP8="}), {"$bytes": ""}][:arguments]
    try:
        check_reply(await client.emit(name, *binary))
    except AssertionError as error:
        if "disconnected before the ack" not in str(error) or str(binary).count("$bytes") <= 10:
            raise
    await arena.check()


@few
@example(auth={"username": 10**400})
@example(auth={"username": "\ud800"})
@example(auth={"username": "again"})
@example(auth={"username": "again"})
@given(auth=values | st.fixed_dictionaries({"username": text | values}, optional={"pid": values, "offset": values}))
async def test_any_auth_is_accepted_or_refused_with_a_code(arena: Arena, auth: Any) -> None:
    """Any JSON as connect auth is accepted or refused with a code, or closed where it is too absurd.

    A client that got in logs out: a name may be drawn twice.
    """
    async with RawSocketIO(arena.gateway.url) as raw:
        try:
            reply = await raw.connect(auth)
        except AssertionError:
            if not raw.closed:
                raise
            reply = "closed"
        if reply.startswith("44"):
            assert json.loads(reply[2:])["data"]["code"] in {"invalid_payload", "invalid_username"}
        elif reply.startswith("40"):
            await raw.send("41")
    await arena.check()


packets = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.builds("{}{}".format, st.sampled_from("0123456789b\x1e"), st.text(max_size=30)),
    st.builds("4{}{}".format, st.sampled_from("0123456789"), st.text(max_size=30)),
    st.builds("42{}{}".format, st.integers() | st.just(10**400), values.map(dump)),
    st.builds("42{}".format, st.lists(values, max_size=4).map(dump)),
    st.builds("45{}-{}".format, st.integers(0, 10**12), st.lists(values, max_size=3).map(dump)),
    st.builds("43{}{}".format, st.integers(-5, 50), st.lists(values, max_size=3).map(dump)),
)


def join_packets(parts: list[str | bytes]) -> bytes:
    """A long-polling body."""
    return b"\x1e".join(part if isinstance(part, bytes) else part.encode() for part in parts)


@few
@given(nonsense=st.lists(packets, min_size=1, max_size=4), logged_in=st.booleans())
@example(nonsense=["451-[", b""], logged_in=True)
@example(nonsense=['459999999999-["send-msg",{"_placeholder":true,"num":0}]'], logged_in=True)
@example(nonsense=["41"], logged_in=True)
@example(nonsense=["40"], logged_in=True)
@example(nonsense=["1"], logged_in=True)
@example(nonsense=["5"], logged_in=False)
@example(nonsense=["2probe"], logged_in=True)
@example(nonsense=["42"], logged_in=True)
@example(nonsense=["42[]"], logged_in=True)
@example(nonsense=['42["connect"]', '42["disconnect","x"]'], logged_in=True)
@example(nonsense=['42/admin,["x"]'], logged_in=True)
@example(nonsense=["4"], logged_in=True)
@example(nonsense=["6", "3", "3"], logged_in=True)
async def test_any_packets_leave_a_websocket_working_or_closed(
    arena: Arena, nonsense: list[str | bytes], logged_in: bool
) -> None:
    """After any text and bytes where packets belong, an action gets its ack, or the connection is closed."""
    async with RawSocketIO(arena.gateway.url) as raw:
        if logged_in:
            await raw.connect({"username": fresh_name()})
        try:
            for packet in nonsense:
                await raw.send(packet)
            await replied_or_closed(raw)
        except ConnectionClosed:
            assert raw.closed or await raw.wait_closed()
    await arena.check()


async def replied_or_closed(raw: RawSocketIO) -> None:
    """Call an action and log in again, in case that was a DISCONNECT: one gets a reply, or the gateway closes."""
    await raw.send('42987654["list-rooms",{}]')
    await raw.send(f'40{{"username":"{fresh_name()}"}}')
    replies = ("40", "44", "43987654[")
    try:
        await raw.frames.take(lambda frame: str(frame).startswith(replies), "a reply")
    except AssertionError:
        if not raw.closed:
            raise


@few
@given(body=packets | st.lists(packets, max_size=20).map(join_packets))
@example(body=b"\xff")
@example(body="\x1e" * 1000)
@example(body="6\x1e" * 40 + "6")
async def test_any_long_polling_body_gets_a_response(arena: Arena, body: str | bytes) -> None:
    """Any body gets an HTTP response, and a client that polls is not left waiting."""
    url = f"{arena.gateway.url}{ENGINE}&transport=polling"
    opened = await request("GET", url)
    url += f"&sid={json.loads(opened.text[1:])['sid']}"
    await request("POST", url, data=f'40{{"username":"{fresh_name()}"}}')
    response = await request("POST", url, data=body)
    assert response.status in {200, 400}, response
    polled = await request("GET", url)
    assert polled.status in {200, 400}, polled
    await arena.check()
