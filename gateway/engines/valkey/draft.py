"""What one run of a rule has read and written, for the checks and the writes of its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.epochs import Epochs
    from gateway.engines.transaction import RoomId, RoomRecord, SessionRecord
    from gateway.engines.valkey.hub import Pending
    from gateway.engines.valkey.node import Node
    from gateway.engines.valkey.records import RoomState, UserState
    from gateway.engines.valkey.workspace import Workspace


class Draft:
    """It shares the workspace of its batch with the runs of other rules."""

    def __init__(self, workspace: Workspace, node: Node, policy: Policy) -> None:
        self.workspace = workspace
        self.node = node
        self.policy = policy
        self.writes: list[list[Any]] = []
        """Those of ``scripts/commit.lua``, in order."""
        self.adds = False
        """Whether the rule adds something for which there may be no memory."""
        self.read_users: set[str] = set()
        self.read_rooms: dict[RoomId, int] = {}
        """The rooms that were read, and how many rules of the batch had changed each of them by then."""
        self.read_streams: set[RoomId] = set()
        self.written_users: dict[str, dict[str, SessionRecord | None]] = {}
        """The sessions that were stored or deleted, by user and sid."""
        self.written_rooms: dict[RoomId, RoomState] = {}
        self.pending: dict[str, Pending] = {}
        """The attachments, by token."""

    def write(self, name: str, *arguments: Any) -> None:
        self.writes.append([name, *arguments])

    @property
    def newest(self) -> int:
        """The newest position when the batch began to read."""
        position = self.workspace.position
        return self.node.position if position is None else position

    @property
    def epochs(self) -> Epochs:
        return self.node.epochs

    async def users(self, usernames: Sequence[str]) -> dict[str, UserState]:
        """Raises PostponedError."""
        await self.workspace.load_users(usernames)
        self.read_users.update(usernames)
        found = {username: self.workspace.users[username] for username in usernames}
        for user in found.values():
            for room_id in user.places:
                self.note_room(self.workspace.rooms[room_id])
        return found

    def note_room(self, room: RoomState) -> RoomState:
        """The rule has read a room."""
        self.read_rooms.setdefault(room.record.id, room.changes)
        return room

    def write_room(self, room: RoomRecord) -> RoomState:
        """The rule changes a room."""
        state = self.written_rooms.get(room.id) or self.workspace.rooms[room.id]
        return self.written_rooms.setdefault(room.id, state)
