"""The log: reading it, and appending to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway import events
from gateway.engines.transaction import Entries, Entry, Messages, Stream
from gateway.engines.valkey.workspace import PostponedError, Read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.transaction import Membership, Range, RoomRecord
    from gateway.engines.valkey.draft import Draft

KINDS: Final = ("m", "n")
"""Of the streams of a room: its messages, and its notices."""

BYTES_AT_ONCE: Final = 131_072
"""Bytes of events that are read together from one stream, about."""


class History:
    """See `gateway.engines.transaction.History`. What is read is as of when the batch began to read."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    async def streams(self, memberships: Sequence[Membership]) -> Sequence[Stream]:
        draft = self._draft
        if any(draft.workspace.rooms[membership.room.id].changes for membership in memberships):
            raise PostponedError
        draft.read_streams.update(membership.room.id for membership in memberships)
        replies = iter(await Read("streams", draft.newest, *(membership.room.id for membership in memberships)))
        return [_stream(membership, kind, next(replies)) for membership in memberships for kind in range(len(KINDS))]

    async def read_back(self, ranges: Sequence[Range], reader: str, limit: int) -> Sequence[Entries]:
        share = max(1, limit // max(1, len(ranges)))
        wanted = [
            value for each in ranges for value in (each.stream.room.id, KINDS[each.stream.kind], each.low, each.high)
        ]
        replies = await Read("backwards", reader, share, BYTES_AT_ONCE, *wanted)
        return [_entries(is_complete, rest) for is_complete, *rest in replies]

    async def invitations(self, memberships: Sequence[Membership]) -> Sequence[Entry | None]:
        wanted = [value for each in memberships for value in (each.room.id, each.username)]
        return [_invitation(reply) for reply in await Read("invitations", *wanted)]

    async def messages(self, room: RoomRecord, *, after: int, before: int | None, limit: int) -> Messages:
        policy, end = self._draft.policy, "+" if before is None else before
        newest_count, newest_size, *rest = await Read("messages", room.id, after, end, limit + 1)
        found: list[bytes] = []
        bytes_left = policy.replay_size
        for position, count, size, body in zip(*(iter(rest),) * 4, strict=True):
            kept = count > newest_count - policy.history_size and (
                count == newest_count or newest_size - size + len(body) <= policy.history_bytes
            )
            if not kept:
                break
            if len(found) == limit or (found and len(body) > bytes_left):
                return Messages(tuple(reversed(found)), more=True)
            bytes_left -= len(body)
            found.append(events.with_field(body, "offset", self._draft.epochs.offset(position)))
        return Messages(tuple(reversed(found)), more=False)

    async def find_message(self, room: RoomRecord, message_id: str, *, after: int) -> Sequence[int]:
        digits = message_id.rpartition(".")[2]
        own = digits if digits.isascii() and digits.isdigit() and len(digits) < 16 and int(digits) > after else "0"
        found, body = await Read("find_message", room.id, orjson.dumps(message_id), after, own)
        positions = [int(position) for position in found][:2]
        if body and orjson.loads(body)["id"] == message_id:
            positions.append(int(own))
        return positions


class Log:
    """See `gateway.engines.transaction.Log`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def newest(self) -> int:
        return self._draft.newest

    def offset(self, position: int) -> str:
        return self._draft.epochs.offset(position)

    def position(self, offset: str) -> int | None:
        return self._draft.epochs.position(offset, self._draft.newest)

    def append(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self._draft.write_room(room)
        self._draft.write("append", str(room.id), event, author, body.decode())

    def publish(self, room: RoomRecord, event: str, body: bytes, *, author: str) -> None:
        self._draft.write("publish", str(room.id), event, author, body.decode())


def _stream(membership: Membership, kind: int, reply: list[Any]) -> Stream:
    newest, author, other, trimmed, trimmed_author, trimmed_other = reply
    reader = membership.username.encode()
    return Stream(
        membership.room,
        kind,
        other if author == reader else newest,
        trimmed_other if trimmed_author == reader else trimmed,
    )


def _entries(is_complete: int, rest: list[Any]) -> Entries:
    found = [Entry(position, event.decode(), body) for position, event, body in zip(*(iter(rest),) * 3, strict=True)]
    return Entries(tuple(found), bool(is_complete))


def _invitation(reply: bytes) -> Entry | None:
    if not reply:
        return None
    head, _, body = reply.partition(b"\n")
    position, _, event = head.decode().partition(" ")
    return Entry(int(position), event, body)
