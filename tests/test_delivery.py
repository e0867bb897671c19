"""An effect of a commit that cannot be delivered is lost alone, and causes no silent gap."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import structlog

from engines.conftest import POLICY, sqlite_store
from gateway import events
from gateway.delivery import Delivery
from gateway.engines.effects import Attachment, Effect, Movement, Session
from gateway.errors import CloseReason
from gateway.manager import ChatManager
from gateway.observe import NullObserver, Observer
from gateway.rules.sessions import Claim, ResumePoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.fast


class Format:
    """A wire whose frames are lines of JSON. Some events it cannot encode."""

    resumable = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.chokes_on = ""

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        if self.chokes_on and self.chokes_on.encode() in body:
            raise ZeroDivisionError
        return orjson.dumps({"event": event, "offset": offset, **orjson.loads(body)}) + b"\n"

    def encode_welcome(self, body: bytes, *rest: Any) -> bytes:
        return self.encode_event("welcome", body, rest[-1])


class Client:
    """A connection that keeps what is written to it."""

    may_know_pid = True

    def __init__(self, wire: Format, username: str, number: int = 0) -> None:
        self.wire = wire
        self.connection_id = self.engine_id = f"{username}-{number}"
        self.session: Session | None = None
        self.closed = False
        self.leaves_late = False
        self.reasons: list[CloseReason] = []
        self.breaks = False
        self._written = b""

    def write(self, frames: bytes) -> None:
        if self.breaks:
            raise BrokenPipeError
        if not self.closed:
            self._written += frames

    greet = write_volatile = write

    def release(self) -> None: ...

    async def finish(self) -> None: ...

    def close(self, reason: CloseReason) -> None:
        self.closed = True
        self.reasons.append(reason)

    @property
    def read(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self._written.splitlines()]

    @property
    def received(self) -> list[str]:
        """The messages that it has read."""
        return [event["content"] for event in self.read if event["event"] == events.MESSAGE]

    @property
    def offset(self) -> str:
        return str(self.read[-1]["offset"])


class Node:
    """A real store and a real `Delivery`, and clients on two wires."""

    def __init__(self, path: str, observer: Observer | None = None) -> None:
        observer = observer or NullObserver()
        policy = dataclasses.replace(POLICY, max_rooms=10, max_members=10)
        self.engine = sqlite_store(path, policy, observer)
        self.manager = ChatManager()
        self.delivery = Delivery(self.manager, observer, recovery_window=120)
        self.sound, self.frail = Format("sound"), Format("frail")
        self.commits: list[int] = []
        """How many effects each had."""

    def committed(self, effects: Sequence[Effect]) -> None:
        self.commits.append(len(effects))
        self.delivery.committed(effects)

    async def login(self, wire: Format, username: str, back: Client | None = None) -> Client:
        client = Client(wire, username, 0 if back is None else 1)
        self.delivery.register(client)
        resume = None if back is None or back.session is None else ResumePoint(back.session.pid, back.offset)
        await self.engine.attach_session(Claim(username, client.connection_id, resume))
        return client

    async def send(self, *contents: str, room: str = "tea") -> None:
        for content in contents:
            await self.engine.append_message("alice", room, content, None)


@pytest.fixture(name="node")
async def _node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(str(tmp_path / "gateway.db"))
    await node.engine.open(node)
    yield node
    await node.engine.close(5)


@pytest.fixture(name="log", autouse=True)
def _log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def errors(log: list[Any]) -> int:
    return sum(entry["log_level"] == "error" for entry in log)


async def test_an_encoding_error_affects_only_clients_of_that_encoding(node: Node, log: list[Any]) -> None:
    """Clients of another encoding receive everything. Those of this one are closed before anything later
    reaches them, come back, and receive all of it once.
    """
    await node.login(node.sound, "alice")
    bob, carol = await node.login(node.sound, "bob"), await node.login(node.frail, "carol")
    await node.engine.create_room("alice", "tea", ("bob", "carol"))
    await node.send("before")
    node.frail.chokes_on = "poison"
    await node.send("poison", "after")
    assert bob.received == ["before", "poison", "after"]
    assert (carol.received, carol.reasons) == (["before"], [CloseReason.MISSED])
    assert errors(log) == 1
    node.frail.chokes_on = ""
    back = await node.login(node.frail, "carol", carol)
    assert (back.read[0]["recovered"], back.received) == (True, ["poison", "after"])


async def test_a_write_error_affects_only_its_own_client(node: Node, log: list[Any]) -> None:
    """The others receive everything, wherever it comes in the order of the room."""
    await node.login(node.sound, "alice")
    clients = [await node.login(node.sound, name) for name in ("bob", "carol", "dave")]
    await node.engine.create_room("alice", "tea", ("bob", "carol", "dave"))
    clients[1].breaks = True
    await node.send("one", "two")
    assert [client.received for client in clients] == [["one", "two"], [], ["one", "two"]]
    assert [client.reasons for client in clients] == [[], [CloseReason.MISSED], []]
    clients[1].breaks = False
    back = await node.login(node.sound, "carol", clients[1])
    assert back.received == ["one", "two"]
    assert errors(log) >= 1


async def test_a_write_error_of_one_recipient_spares_the_other_recipients(node: Node) -> None:
    """The room-joined of each new member is an effect of its own."""
    await node.login(node.sound, "alice")
    clients = [await node.login(node.sound, name) for name in ("bob", "carol", "dave")]
    clients[0].breaks = True
    await node.engine.create_room("alice", "tea", ("bob", "carol", "dave"))
    assert [client.read[-1]["event"] for client in clients] == ["welcome", "room-joined", "room-joined"]
    assert [client.closed for client in clients] == [True, False, False]


@pytest.mark.parametrize("what", [Movement, Attachment])
async def test_a_failing_movement_or_attachment_disconnects_those_it_concerns(
    node: Node, monkeypatch: pytest.MonkeyPatch, what: type, log: list[Any]
) -> None:
    """The other effects of the commit are delivered, and the clients it concerns are closed."""
    await node.login(node.sound, "alice")
    bob, carol = await node.login(node.sound, "bob"), await node.login(node.sound, "carol")
    await node.engine.create_room("alice", "tea", ("carol",))
    monkeypatch.setattr(node.manager, "enter", lambda *_: 1 / 0)
    if what is Movement:
        await node.engine.add_members("alice", "tea", ("bob",))
        assert bob.reasons == [CloseReason.MISSED]
    else:
        again = await node.login(node.sound, "carol", carol)
        assert (carol.reasons, again.reasons) == ([CloseReason.TAKEN_OVER], [CloseReason.MISSED])
        assert again.received == []
    monkeypatch.undo()
    await node.send("after")
    assert errors(log) == 1
    assert carol.received == (["after"] if what is Movement else [])
    assert bob.received == []


async def test_the_effects_after_a_failure_are_still_delivered(node: Node) -> None:
    """Effects of one commit, in one list: the first one fails."""
    await node.login(node.sound, "alice")
    bob, carol = await node.login(node.frail, "bob"), await node.login(node.sound, "carol")
    await node.engine.create_room("alice", "tea", ("bob",))
    await node.engine.create_room("alice", "cake", ("carol",))
    node.frail.chokes_on = "poison"
    node.commits.clear()
    await asyncio.gather(node.send("poison"), node.send("cake", room="cake"), node.send("later"))
    assert max(node.commits) > 1, "they were to be committed together"
    assert carol.received == ["cake"]
    assert (bob.received, bob.closed) == ([], True)
