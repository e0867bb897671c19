"""What clients receive of an engine's effects: a subscriber that does what delivery does, and remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.engines.effects import Attachment, Effect, Movement, Publication


@dataclass(frozen=True, slots=True)
class Received:
    connection: str
    event: str
    body: dict[str, Any]
    offset: str | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """What connections received, and all stored events, each in order."""

    received: list[Received]
    appended: list[Received]


class Receivers:
    """The connections of one node, and which of them are in which room. A `gateway.engines.base.Subscriber`."""

    def __init__(self) -> None:
        self._connections: dict[str, str] = {}
        """The live connection of each username."""
        self._rooms: dict[str, set[str]] = {}
        self.received: list[Received] = []
        """What arrived since `take`."""
        self.attachments: dict[str, Attachment] = {}
        """By connection."""
        self.appended: list[Received] = []
        """Every stored event since `take`, whether or not anybody is there to receive it."""
        self.left: list[str] = []
        """Who left rooms since `take`, in order."""

    def take(self) -> Arrived:
        arrived = Arrived(self.received, self.appended)
        self.received, self.appended, self.left = [], [], []
        return arrived

    def forget(self, connection: str) -> None:
        """The connection is closed."""
        for username in [name for name, held in self._connections.items() if held == connection]:
            self._drop(username)

    def _drop(self, username: str) -> None:
        self._connections.pop(username, None)
        for members in self._rooms.values():
            members.discard(username)

    def committed(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Attachment():
                    self._attach(effect)
                case Movement():
                    self._move(effect)
                case Publication():
                    self._publish(effect)

    def _attach(self, attachment: Attachment) -> None:
        if attachment.replaces is not None:
            self.forget(attachment.replaces.connection)
        username = attachment.session.username
        self._connections[username] = attachment.holder.connection
        for room in attachment.rooms:
            self._rooms.setdefault(room.room, set()).add(username)
        self.attachments[attachment.holder.connection] = attachment

    def _move(self, movement: Movement) -> None:
        members = self._rooms.setdefault(movement.room, set())
        members.difference_update(movement.left)
        members.update(name for name in movement.joined if name in self._connections)
        self.left += movement.left

    def _publish(self, publication: Publication) -> None:
        body = orjson.loads(publication.body)
        if publication.offset is not None:
            self.appended.append(Received("", publication.event, body, publication.offset))
        recipients = publication.recipients
        if recipients is None:
            recipients = tuple(self._rooms.get(publication.room, set()) - {publication.author or ""})
        for username in recipients:
            connection = self._connections.get(username)
            if connection is not None:
                self.received.append(Received(connection, publication.event, body, publication.offset))
