"""The transactions of rules (`gateway.engines.transaction`), each a draft on the workspace of its batch."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

from gateway.engines.valkey.history import History, Log
from gateway.engines.valkey.hub import Pending
from gateway.engines.valkey.members import Departures, Members
from gateway.engines.valkey.rooms import Rooms
from gateway.engines.valkey.sessions import Sessions

if TYPE_CHECKING:
    from gateway.engines.effects import Attachment
    from gateway.engines.valkey.draft import Draft

RUN_TIME: Final = 0.02
"""How long one run of a rule may take before it stops where it can (`Transaction.has_time`), in seconds."""


class ValkeyTransaction:
    """See `gateway.engines.transaction.Transaction`."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.node = draft.node.id
        self._ends_at = time.perf_counter() + RUN_TIME
        self.sessions = Sessions(draft)
        self.rooms = Rooms(draft)
        self.members = Members(draft)
        self.departures = Departures(draft)
        self.history = History(draft)
        self.log = Log(draft)

    async def is_here(self, username: str) -> bool:
        user = (await self.draft.users([username]))[username]
        return any(
            session.holder is not None and session.holder.node == self.node for session in user.sessions.values()
        )

    def running_ms(self) -> int:
        return self.draft.node.clock.running_ms()

    def has_time(self) -> bool:
        return time.perf_counter() < self._ends_at

    def check_space(self) -> None:
        """The server refuses what it has no memory for when it is committed."""
        self.draft.adds = True

    def attach(self, attachment: Attachment) -> None:
        draft, token = self.draft, secrets.token_hex(8)
        user = draft.workspace.users.get(attachment.session.username)
        # Those of a session that this one replaces are not its own.
        names = {room.room for room in attachment.rooms}
        known = {} if user is None else {room_id: draft.workspace.rooms[room_id].record.name for room_id in user.places}
        rooms: dict[int, str] = {room_id: name for room_id, name in known.items() if name in names}
        draft.pending[token] = Pending(attachment, rooms, draft.newest)
        former = attachment.replaces
        if former is not None and former.node != self.node:
            draft.write("replace", former.node, former.connection)
        draft.write("attach", token)
