"""Each thing that happens is observed once, where it happens; actions are in test_pipeline.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.observe import NullObserver
from gateway.protocol.login import Credentials
from gateway.sessions import Sessions
from test_delivery import Client, Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.fast


class RecordingObserver(NullObserver):
    def __init__(self) -> None:
        self.wires: list[tuple[str, str]] = []
        self.deliveries: list[tuple[str, int]] = []
        self.batches: list[int] = []

    def connected(self, wire: str) -> None:
        self.wires.append(("connected", wire))

    def disconnected(self, wire: str) -> None:
        self.wires.append(("disconnected", wire))

    def committed(self, operations: int, duration: float) -> None:
        assert 0 <= duration < 60
        self.batches.append(operations)

    def delivered(self, event: str, members: int) -> None:
        self.deliveries.append((event, members))


@pytest.fixture(name="observer")
def _observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture(name="node")
async def _node(tmp_path: Path, observer: RecordingObserver) -> AsyncIterator[Node]:
    node = Node(str(tmp_path / "gateway.db"), observer)
    await node.engine.open(node.delivery)
    yield node
    await node.engine.close(5)


async def test_an_event_is_observed_with_the_members_it_was_written_to(node: Node, observer: RecordingObserver) -> None:
    for name in ("alice", "bob", "carol"):
        await node.login(node.sound, name)
    await node.engine.create_room("alice", "tea", ("bob", "carol"))
    await node.send("one", "two")
    await node.engine.publish_typing("bob", "tea")
    assert observer.deliveries == [
        ("room-joined", 1),
        ("room-joined", 1),
        ("message", 2),
        ("message", 2),
        ("typing", 2),
    ]


async def test_an_author_is_none_of_those_whom_its_own_event_is_written_to(
    node: Node, observer: RecordingObserver
) -> None:
    """Also where one batch has events of several authors."""
    for name in ("alice", "bob", "carol"):
        await node.login(node.sound, name)
    await node.engine.create_room("alice", "tea", ("bob", "carol"))
    observer.deliveries.clear()
    await asyncio.gather(*(node.engine.append_message(name, "tea", "hello", None) for name in ("alice", "bob")))
    assert observer.deliveries == [("message", 2)] * 2


async def test_a_client_whose_session_is_resumed_elsewhere_is_gone(node: Node, observer: RecordingObserver) -> None:
    alice = await node.login(node.sound, "alice")
    await node.login(node.sound, "alice", back=alice)
    assert observer.wires == [("disconnected", "sound")]


async def test_a_batch_is_observed_when_it_is_on_disk(node: Node, observer: RecordingObserver) -> None:
    await node.login(node.sound, "alice")
    await node.engine.create_room("alice", "tea", ())
    before = sum(observer.batches)
    await node.send("one", "two", "three")
    assert sum(observer.batches) - before == 3
    await node.engine.list_rooms("alice")
    assert sum(observer.batches) - before == 3, "what writes nothing is not committed"


async def test_a_client_is_observed_when_it_comes_and_when_it_goes(node: Node, observer: RecordingObserver) -> None:
    sessions = Sessions(node.engine, node.delivery, observer)
    lost, left = (Client(node.sound, name, 0) for name in ("alice", "bob"))
    await sessions.connect(lost, Credentials("alice"))
    await sessions.connect(left, Credentials("bob"))
    assert observer.wires == [("connected", "sound")] * 2
    sessions.lose(lost)
    sessions.lose(lost)
    sessions.end(left)
    assert observer.wires[2:] == [("disconnected", "sound")] * 2
    await sessions.close()
