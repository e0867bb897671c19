"""A large store, built quickly: many sessions, and users each of whom is in a hundred rooms whose logs are full."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway import events
from gateway.engines.base import ListUsers, Policy
from gateway.engines.sqlite.clocks import Clocks
from gateway.engines.sqlite.database import open_database
from gateway.engines.sqlite.engine import SLICE_TIME
from gateway.engines.sqlite.spans import MESSAGES, NOTICES, Span
from gateway.engines.sqlite.transaction import SQLiteTransaction
from gateway.tokens import hash_token


@dataclass(frozen=True)
class Size:
    sessions: int
    history: int
    """Messages of a room that is full, and as many other events."""
    message: int
    """Bytes of a message's content."""


SIZE = Size(100_000, 1_000, 10_000) if os.environ.get("LARGE") == "full" else Size(20_000, 200, 500)
"""``LARGE=full``: 100,000 sessions and 1 GB of messages. Else a fraction: still more than may be read at once."""

ROOMS = 100
MEMBERS = 100
HEAVY = tuple(f"heavy{number:02}" for number in range(12))
"""Each of them is in all of the rooms, and so are 88 others; and in as many rooms that others have added them to, where
there are few messages: more rooms than these nobody can be in.
"""
SINGLE = tuple(f"single{number}" for number in range(3))
"""Each of them is alone in as many rooms, which are as full."""

POLICY = Policy(
    max_rooms=ROOMS,
    max_members=10_000,
    history_size=SIZE.history,
    history_bytes=2**24,
    presence_limit=MEMBERS,
    recovery_window=120,
    reserve_names=60,
    decline_window=3600,
    list_users=ListUsers.ALL,
    replay_size=2**19,
    commit_size=2**18,
)

Row = tuple[object, ...]


class LargeStore:
    """The file, and the `SQLiteTransaction` on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        connection = open_database(str(path))
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        names = [f"user{number:06}" for number in range(SIZE.sessions)]
        connection.executemany(
            "INSERT INTO sessions (username, sid, pid, connection, node) VALUES (?, ?, ?, ?, 'local')",
            [(name, f"s-{name}", hash_token(f"p-{name}"), f"c-{name}") for name in (*names, *HEAVY, *SINGLE)],
        )
        crowd = (*HEAVY, *names[: MEMBERS - len(HEAVY)])
        shared = [(f"shared{number:03}", crowd, SIZE.message) for number in range(ROOMS)]
        own = [(f"{user}-{number:03}", (user,), SIZE.message // 10) for user in SINGLE for number in range(ROOMS)]
        quiet = [(f"quiet{number:03}", crowd, 0) for number in range(ROOMS)]
        for room_id, (room, members, size) in enumerate(shared + own + quiet, 1):
            connection.execute(
                "INSERT INTO rooms (id, name, member_count) VALUES (?, ?, ?)", (room_id, room, len(members))
            )
            connection.executemany(
                "INSERT INTO members (room_id, username, joined, invited) VALUES (?, ?, 0, ?)",
                [(room_id, name, not size) for name in members],
            )
            connection.executemany(
                "INSERT INTO log (position, room_id, kind, event, author, message_id, ts, number, size, other, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                self._rows(room_id, room, members, size),
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = FULL")
        connection.close()

    def _rows(self, room_id: int, room: str, members: tuple[str, ...], size: int) -> Iterator[Row]:
        """Every second message is the first member's own, so that a reader who skips those has many to skip."""
        spans = {kind: Span() for kind in (MESSAGES, NOTICES)}
        for number in range(2 * SIZE.history if size else 2):
            kind = number % 2
            author = members[0] if number % 4 < 2 else members[number % len(members)]
            self.position += 1
            if kind == MESSAGES:
                name = f"id{number}" if number % 3 else None
                body = events.message(name or f"own.{self.position}", room, author, "x" * size, 1_790_000_000_000)
            else:
                name, body = None, events.user_left(room, author)
            span = spans[kind]
            span.append(self.position, author, len(body), 1_790_000_000_000)
            event = events.MESSAGE if kind == MESSAGES else events.USER_LEFT
            yield (
                *(self.position, room_id, kind, event, author, name, span.ts),
                *(span.number, span.size, span.other, body),
            )

    def copy(self, path: Path) -> LargeStore:
        """A store of its own with the same in it."""
        copy = LargeStore.__new__(LargeStore)
        copy.path, copy.position = path, self.position
        shutil.copy(self.path, path)
        return copy

    def open(self, policy: Policy = POLICY, slice_time: float = SLICE_TIME) -> SQLiteTransaction:
        return SQLiteTransaction(open_database(str(self.path)), policy, Clocks(time.time, time.monotonic), slice_time)
