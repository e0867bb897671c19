"""Runs of rules: what each has read and written, and how those of one batch concern each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.engines.transaction import RoomId

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Sequence

    from gateway.engines.base import Rule
    from gateway.engines.valkey.draft import Draft
    from gateway.engines.valkey.workspace import Read, Workspace


@dataclass(slots=True)
class Call:
    """A rule that waits. Its result is set together with the position at which it was committed."""

    client: str
    rule: Rule[Any]
    future: asyncio.Future[tuple[Any, int]]
    gives_up_at: float
    low_priority: bool
    conflicts: int = 0


@dataclass(slots=True)
class Run:
    """One run of a call's rule."""

    call: Call
    draft: Draft
    rule: Coroutine[Any, Any, Any]
    read: Read | None = None
    """What it waits for."""
    rounds: int = 0
    result: Any = None
    error: Exception | None = None

    @property
    def has_written(self) -> bool:
        return self.error is None and bool(self.draft.writes)


@dataclass(slots=True)
class Group:
    """Runs that are committed together: they change rooms in common."""

    runs: list[Run] = field(default_factory=list)
    rooms: set[RoomId] = field(default_factory=set)


def is_outdated(run: Run, workspace: Workspace) -> bool:
    """Whether another rule of the batch has changed what a rule had read, since it read it."""
    if any(workspace.users[name].is_written for name in run.draft.read_users):
        return True
    return any(workspace.rooms[room_id].changes != known for room_id, known in run.draft.read_rooms.items())


def apply(run: Run, workspace: Workspace) -> None:
    """Let the other rules of the batch see what a rule has written."""
    if not run.has_written:
        return
    for username in run.draft.written_users:
        if username in workspace.users:
            workspace.users[username].is_written = True
    for state in run.draft.written_rooms.values():
        state.changes += 1
    for name, *arguments in run.draft.writes:
        _apply_to_rooms(name, arguments, run.draft, workspace)


def _apply_to_rooms(name: str, arguments: list[Any], draft: Draft, workspace: Workspace) -> None:
    match name, arguments:
        case "create_room", [room_id, *_]:
            workspace.name_room(draft.written_rooms[RoomId(int(room_id))])
        case "delete_room", [room_id]:
            workspace.unname_room(draft.written_rooms[RoomId(int(room_id))])
        case "add_members", [room_id, usernames, *_]:
            state = draft.written_rooms[RoomId(int(room_id))]
            state.record = state.record._replace(member_count=state.record.member_count + len(usernames))
            for username in usernames:
                user = workspace.users.get(username)
                online = user is not None and any(session.holder for session in user.sessions.values())
                state.added[username] = online
                state.removed.discard(username)
        case "remove_member", [username, room_ids]:
            for room_id in room_ids:
                state = draft.written_rooms[RoomId(int(room_id))]
                state.record = state.record._replace(member_count=state.record.member_count - 1)
                state.removed.add(username)
                state.added.pop(username, None)


def group_by_rooms(runs: Sequence[Run]) -> list[Group]:
    """Runs that change rooms in common, each in the order in which they ended."""
    groups: list[Group] = []
    for run in runs:
        rooms = set(run.draft.written_rooms)
        related = [group for group in groups if group.rooms & rooms]
        merged = Group()
        for group in related:
            merged.runs += group.runs
            merged.rooms |= group.rooms
            groups.remove(group)
        merged.runs.append(run)
        merged.rooms |= rooms
        groups.append(merged)
    return groups


def checks_of(runs: Sequence[Run]) -> list[tuple[str, str, str, str]]:
    """What must still be as it was read (``scripts/commit.lua``)."""
    checks = dict.fromkeys(user_checks(runs))
    for run in runs:
        for room_id, state in run.draft.written_rooms.items():
            checks["room", str(room_id), "v", state.version] = None
            if not state.version:
                checks["names", "", state.record.name, ""] = None
                if state.record.pair is not None:
                    checks["pairs", "", state.record.pair, ""] = None
            elif room_id in run.draft.read_streams:
                checks["room", str(room_id), "last", state.newest] = None
    return list(checks)


def user_checks(runs: Sequence[Run]) -> list[tuple[str, str, str, str]]:
    return [
        ("user", name, "v", run.draft.workspace.users[name].version) for run in runs for name in run.draft.read_users
    ]
