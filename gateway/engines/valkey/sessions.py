"""Sessions, and the indexes of what is suspended, what is live on which node, and where a user is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.engines.valkey.records import LONG_AGO, encode_session, pairs, session_key, split_session_key
from gateway.engines.valkey.workspace import Read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.engines.transaction import Membership, SessionRecord
    from gateway.engines.valkey.draft import Draft


class Sessions:
    """See `gateway.engines.transaction.Sessions`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    async def of(self, usernames: Sequence[str]) -> Mapping[str, Sequence[SessionRecord]]:
        users = await self._draft.users(usernames)
        return {username: tuple(user.sessions.values()) for username, user in users.items() if user.sessions}

    async def suspended_until(self, running_ms: int, limit: int) -> Sequence[SessionRecord]:
        (keys,) = await Read("suspended", running_ms, limit)
        found = await self._named(keys)
        return [session for session in found if (session.suspended_at or running_ms + 1) <= running_ms]

    async def orphaned(self, limit: int) -> Sequence[SessionRecord]:
        (found,) = await Read("orphaned", limit)
        gone = {node.decode() for node in found[1::2]}
        # One that the index names may have been resumed elsewhere by the time at which it is read.
        sessions = await self._named(found[::2])
        return [session for session in sessions if session.holder is not None and session.holder.node in gone]

    async def _named(self, keys: Sequence[bytes]) -> list[SessionRecord]:
        """The sessions that an index names, as they are now."""
        names = [split_session_key(key) for key in keys]
        users = await self._draft.users([username for _, username in names])
        return [users[username].sessions[sid] for sid, username in names if sid in users[username].sessions]

    async def online(self, prefix: str, limit: int) -> Sequence[str]:
        (found,) = await Read("names", prefix, limit, limit, "")
        return [username for username, _ in pairs(found)]

    async def online_among(self, usernames: Sequence[str], limit: int) -> Sequence[str]:
        (found,) = await Read("online", *usernames)
        return sorted(username for username, online in pairs(found) if online)[:limit]

    def put(self, session: SessionRecord) -> None:
        draft = self._draft
        before = self._before(session)
        draft.written_users.setdefault(session.username, {})[session.sid] = session
        draft.write("put_session", session.username, session.sid, encode_session(session))
        self._index(session, before)

    def delete(self, session: SessionRecord) -> None:
        draft = self._draft
        before = self._before(session)
        draft.written_users.setdefault(session.username, {})[session.sid] = None
        draft.write("delete_session", session.username, session.sid)
        if before is not None:
            self._index(before._replace(holder=None, suspended_at=None), before)

    def note_leaving(self, membership: Membership) -> None:
        # The script knows the positions: those of what others of the batch write are not known before.
        draft, username = self._draft, membership.username
        draft.written_users.setdefault(username, {})
        sids = list(draft.workspace.users[username].sessions)
        draft.write("note_leaving", username, sids, str(membership.room.id), membership.joined, membership.invited)

    def _before(self, session: SessionRecord) -> SessionRecord | None:
        user = self._draft.workspace.users.get(session.username)
        return None if user is None else user.sessions.get(session.sid)

    def _index(self, session: SessionRecord, before: SessionRecord | None) -> None:
        """Keep the indexes: what is suspended, what is live on which node, and where a user is."""
        draft, key = self._draft, session_key(session)
        if session.suspended_at is not None:
            # Those to which nobody can return come first: the others may count from `Node.windows_began`.
            draft.write("suspend", key, session.suspended_at if session.resumable else LONG_AGO)
        elif before is not None and before.suspended_at is not None:
            draft.write("unsuspend", key)
        held, holds = (None if each is None else each.holder for each in (before, session))
        if held is not None and (holds is None or holds.node != held.node):
            draft.write("release", held.node, key)
        if holds is not None:
            draft.write("hold", holds.node, key)
        draft.write("set_nodes", session.username, self._nodes_of(session.username))

    def _nodes_of(self, username: str) -> list[str]:
        user = self._draft.workspace.users.get(username)
        written = self._draft.written_users.get(username, {})
        sessions = {**({} if user is None else user.sessions), **written}.values()
        holders = [session.holder for session in sessions if session is not None]
        return sorted({holder.node for holder in holders if holder is not None})
