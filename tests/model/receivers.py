"""What clients receive of an engine's effects: a subscriber that does what delivery does, and remembers it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engines.live import LiveMembers
from gateway.engines.effects import Attachment, Effect, Movement, Publication


@dataclass(frozen=True, slots=True)
class Received:
    connection: str
    event: str
    body: dict[str, Any]
    offset: str | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """What connections received, and the stored events that were published, each in order."""

    received: list[Received]
    appended: list[Publication]


class Receivers:
    """The connections of one node, and which of them are in which room. A `gateway.engines.effects.Subscriber`."""

    def __init__(self) -> None:
        self._live = LiveMembers()
        self.received: list[Received] = []
        """What arrived since `take`."""
        self.attachments: dict[str, Attachment] = {}
        """By connection."""
        self.appended: list[Publication] = []
        """Every stored event that was published since `take`, whether or not anybody is there to receive it."""
        self.left: list[str] = []
        """Who left rooms since `take`, in order."""
        self.gaps: list[Collection[str] | None] = []
        """What members have `missed`."""

    def take(self) -> Arrived:
        arrived = Arrived(self.received, self.appended)
        self.received, self.appended, self.left = [], [], []
        return arrived

    def forget(self, connection: str) -> None:
        """The connection is closed."""
        self._live.forget(connection)

    def missed(self, rooms: Collection[str] | None) -> None:
        self.gaps.append(rooms)

    def has_session(self, sid: str, username: str) -> bool:
        return self._live.has_session(sid, username)

    def has_members(self, room: str) -> bool:
        return bool(self._live.of(room))

    def committed(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._live.note(effect)
            match effect:
                case Attachment():
                    self.attachments[effect.holder.connection] = effect
                case Movement():
                    self.left += effect.left
                case Publication():
                    self._publish(effect)

    def _publish(self, publication: Publication) -> None:
        body = orjson.loads(publication.body)
        if publication.event == "user-left":
            self.left.append(body["username"])
        if publication.offset is not None:
            self.appended.append(publication)
        recipients = publication.recipients
        if recipients is None:
            recipients = tuple(self._live.of(publication.room) - {publication.author or ""})
        for username in recipients:
            connection = self._live.connection_of(username)
            if connection is not None:
                self.received.append(Received(connection, publication.event, body, publication.offset))
