"""What is published on the channels of rooms and nodes, and its place in the order of all of it.

A message is a JSON array, a line feed, and the body of an event if it has one. It begins with its position and with
the position of the message before it on its channel; or with 0 and the newest position, where it is not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """An event for the members of a room: position, previous, event, author."""

    position: int
    previous: int
    room_id: int
    event: str
    author: str
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        return self.position, 0


@dataclass(frozen=True, slots=True)
class VolatileEvent:
    """As `RoomEvent`, but not stored: 0, the newest position, event, author."""

    stamp: int
    room_id: int
    event: str
    author: str
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        return self.stamp, 1


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for one node: position, previous, kind, and the fields of that kind.

    - ``move``: room id, name of the room, newest position in it, who joined, who left
    - ``event``: position of the event, event, author, recipients, name of the room
    - ``attach``: token of the attachment, which the node keeps
    - ``replace``: connection of this node whose session has moved
    """

    position: int
    previous: int
    kind: str
    fields: list[Any]
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        return self.position, 0


@dataclass(frozen=True, slots=True)
class Probe:
    """Shows that everything up to the newest position was received: 0, that position, and ``"probe"``, or ``"nodes"``
    where one of the nodes can be reached somewhere else than before.
    """

    stamp: int
    nodes_changed: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.stamp, 1


Item: TypeAlias = RoomEvent | VolatileEvent | Notice | Probe


def parse_room(room_id: int, message: bytes) -> RoomEvent | VolatileEvent:
    head, _, body = message.partition(b"\n")
    position, previous, event, author = orjson.loads(head)
    if not position:
        return VolatileEvent(previous, room_id, event, author, body)
    return RoomEvent(position, previous, room_id, event, author, body)


def parse_node(message: bytes) -> Notice | Probe:
    head, _, body = message.partition(b"\n")
    position, previous, kind, *fields = orjson.loads(head)
    return Notice(position, previous, kind, fields, body) if position else Probe(previous, kind == "nodes")


def entry(room_id: int, fields: list[Any]) -> RoomEvent:
    """An entry of a room's log, as ``scripts/since.lua`` replies it."""
    position, previous, event, author, body = fields
    return RoomEvent(position, previous, room_id, event.decode(), author.decode(), body)
