"""What a node receives and what it reads are delivered in one order, whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engines.conftest import Recorder
from gateway.engines.effects import Attachment, Holder, Publication, Session
from gateway.engines.epochs import Epochs
from gateway.engines.valkey.address import Address
from gateway.engines.valkey.hub import Hub, Pending
from gateway.events import Room

pytestmark = pytest.mark.fast

ROOM = 7


class Server:
    """What a hub sees of its node: the logs of the node and of one room, which are read while more is published."""

    def __init__(self) -> None:
        self.address = Address.parse("redis://127.0.0.1/0")
        self.id = "here"
        self.epochs = Epochs([("e", 0)])
        self.position = 0
        self.read_position = 0
        self.notices: list[tuple[int, bytes]] = []
        self.events: list[tuple[int, bytes]] = []
        self.after_reading: list[Callable[[], None]] = []
        """What happens when something was read, each once."""

    async def read(self, _: str, node: str, newest_notice: int, *rooms: int) -> list[Any]:
        notices = [message for position, message in self.notices if position > newest_notice]
        reply: list[Any] = [notices]
        for room_id, newest in zip(rooms[::2], rooms[1::2], strict=True):
            events = [
                [position, self.previous(position), b"message", b"bob", body]
                for position, body in self.events
                if position > newest
            ]
            if events:
                reply.append([str(room_id).encode(), b"all", *events])
        self.read_position = self.position
        if self.after_reading:
            self.after_reading.pop(0)()
        await asyncio.sleep(0)
        return reply

    def note_position(self, position: int) -> None:
        self.position = max(self.position, position)

    def previous(self, position: int) -> int:
        return max((each for each, _ in self.events if each < position), default=0)

    def send(self, kind: str, *fields: str) -> bytes:
        """A notice for the node; its message."""
        self.position += 1
        last = self.notices[-1][0] if self.notices else 0
        rest = "".join(f',"{field}"' for field in fields)
        message = f'[{self.position},{last},"{kind}"{rest}]\n'.encode()
        self.notices.append((self.position, message))
        return message

    def publish(self, content: str) -> bytes:
        """A message in the room, as it is published."""
        self.position += 1
        self.events.append((self.position, content.encode()))
        return f'[{self.position},{self.previous(self.position)},"message","bob"]\n{content}'.encode()

    async def subscribe(self, channels: list[str]) -> None:
        """As a subscription does."""


async def test_what_is_read_does_not_overtake_what_is_under_way() -> None:
    """A session is attached, and then a message is sent to its room, while a node catches up: the message is read, the
    attachment is still on its way, and the one must not be delivered without the other.
    """
    server, recorder, pending = Server(), Recorder(), {}
    hub = Hub(server, recorder, pending, most=50_000)  # type: ignore[arg-type]
    delivering = asyncio.ensure_future(hub.run())
    join(pending, "first", server.position)
    own, room = server.address.channel_of_node("here").encode(), server.address.channel_of_room(ROOM).encode()
    await hub.resume(server)  # type: ignore[arg-type]
    hub.received(own, server.send("attach", "first"))
    await settle()
    assert [type(effect) for effect in recorder.effects] == [Attachment]

    messages: list[bytes] = []

    def publish() -> None:
        join(pending, "second", server.position)
        messages.extend((server.send("attach", "second"), server.publish("hello")))

    server.after_reading = [publish]
    await hub.catch_up()
    await settle()
    waiting = asyncio.ensure_future(hub.passed(server.position))
    await settle()
    assert not waiting.done()
    assert len(recorder.effects) == 1
    hub.received(own, messages[0])
    hub.received(room, messages[1])
    await asyncio.wait_for(waiting, 1)
    kinds = [type(effect) for effect in recorder.effects]
    assert kinds == [Attachment, Attachment, Publication]
    assert recorder.last_attachment.missed == ()
    delivering.cancel()


async def test_what_is_received_before_a_subscription_is_resumed_waits() -> None:
    """What was published before it is read first: nothing that is received meanwhile shows that this is here."""
    server, recorder, pending = Server(), Recorder(), {}
    hub = Hub(server, recorder, pending, most=50_000)  # type: ignore[arg-type]
    delivering = asyncio.ensure_future(hub.run())
    join(pending, "first", server.position)
    own = server.address.channel_of_node("here").encode()
    server.send("attach", "first")
    waiting = asyncio.ensure_future(hub.passed(server.position))

    def probe() -> None:
        hub.received(own, f'[0,{server.position},"probe"]\n'.encode())

    server.after_reading = [probe]
    resuming = asyncio.ensure_future(hub.resume(server))  # type: ignore[arg-type]
    await waiting
    assert [type(effect) for effect in recorder.effects] == [Attachment]
    await resuming
    delivering.cancel()


def join(pending: dict[str, Pending], name: str, since: int) -> None:
    """A session of the room is being attached on this node."""
    session = Session(f"sid-{name}", "pid", name)
    rooms = (Room("tea", "group", "all", "[]", 2, None),)
    attachment = Attachment(session, Holder(f"c-{name}", "here"), rooms, "e-0", recovered=True)
    pending[name] = Pending(attachment, {ROOM: "tea"}, since)


async def settle() -> None:
    """Let the hub do what it can."""
    for _ in range(50):
        await asyncio.sleep(0)
