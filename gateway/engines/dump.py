"""What a store holds, as a stream of records: so it is moved from one engine to another, or to another place.

Each engine has an `Exporter` and an `Importer`. The stream is in this order: `Start`; each `Room`, followed by what is
in its log (`Event`, in the order of their positions) and by its `TrimmedMessage` records; then the users: `Session`,
`Member` and `Departure`, in no order. Whoever reads or writes one keeps in memory a small piece of it, and of each room
and user not more than its name.

Positions stay what they are, and so do the epochs; the first opening of the new store begins another epoch. So an
offset that was issued before names the same events in the new store. Ids of rooms stay as well.

Whether a session was live or suspended is not in it: no client can return while a store is moved, so all of them are
suspended when the new store is first opened, and their recovery windows begin then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

import orjson

from gateway import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from gateway.engines.transaction import RoomId, RoomRecord


@dataclass(frozen=True, slots=True)
class Start:
    """``newest``: the newest position there ever was. ``running_ms``: the store's running time, at least 1. ``epochs``:
    the name of each, and the position after which it begins (`gateway.engines.epochs`).
    """

    newest: int
    running_ms: int
    epochs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The newest event of one kind that was trimmed from the log of a room: its position and author, and the position
    of the newest one before it by another author. All may be later than they were, by what the source does not know.
    """

    position: int
    author: str | None
    other: int


@dataclass(frozen=True, slots=True)
class Room:
    """``messages`` and ``notices``: what was trimmed of each kind."""

    record: RoomRecord
    messages: Trimmed | None
    notices: Trimmed | None


@dataclass(frozen=True, slots=True)
class Event:
    """An event that a whole room receives. ``other``: the position of the newest one of its kind before it by another
    author, or 0. ``message_id``: the id that the author of a message chose, if any.
    """

    room: RoomId
    position: int
    event: str
    author: str
    body: bytes
    other: int
    message_id: str | None

    @property
    def is_message(self) -> bool:
        return self.event == events.MESSAGE

    def ts(self) -> int:
        """When a message was sent: Unix time in ms."""
        return int(orjson.loads(self.body)["ts"])


@dataclass(frozen=True, slots=True)
class TrimmedMessage:
    """A message that the log has no more, but whose author may send it again. ``ts``: when it was sent (Unix time in
    ms); ``trimmed_at``: when it was trimmed, in the store's running time (ms).
    """

    room: RoomId
    author: str
    message_id: str
    position: int
    ts: int
    trimmed_at: int


@dataclass(frozen=True, slots=True)
class Session:
    """As `gateway.engines.transaction.SessionRecord`."""

    sid: str
    username: str
    pid_hash: str
    previous_pid_hash: str | None
    resumable: bool
    began: int
    missed_by_leaving: int


@dataclass(frozen=True, slots=True)
class Member:
    """``peer``: the other user of a direct room. ``invitation``: the body of the member's own ``room-joined``, which is
    at the position ``joined``, if another user added it.
    """

    room: RoomId
    username: str
    joined: int
    peer: str | None
    invitation: bytes | None


@dataclass(frozen=True, slots=True)
class Departure:
    """``place`` as in `gateway.engines.transaction.Departures`, of a room that exists or of a pair. ``left_at``: Unix
    time in ms.
    """

    place: str
    username: str
    left_at: int


Record: TypeAlias = Start | Room | Event | TrimmedMessage | Session | Member | Departure


class Exporter(Protocol):
    """Reads a store, which no gateway uses meanwhile, and does not change it."""

    async def __aenter__(self) -> Self:
        """Raises StoreError: there is no such store, it cannot be read, or a gateway uses it."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def records(self) -> AsyncIterator[Record]:
        """Raises StoreError: it cannot be read on, or somebody has begun to use it."""


class Importer(Protocol):
    """Writes into an empty store, which no gateway can use meanwhile. Without `finish`, nothing is in it in the end."""

    async def __aenter__(self) -> Self:
        """Raises StoreError: the store is not empty, or cannot be written."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def put(self, record: Record) -> None:
        """Raises StoreError: the store cannot be written."""

    async def finish(self) -> None:
        """All records were put: what was written becomes the store. Raises StoreError."""
