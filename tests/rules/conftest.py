"""The rules on a store in dictionaries, and what it published."""

from __future__ import annotations

import pytest

from engines.conftest import POLICY, Recorder
from gateway import events
from gateway.engines.base import Policy
from gateway.engines.effects import Session
from gateway.engines.transaction import RoomCounts, Transaction
from gateway.rules.rooms import Added
from gateway.rules.sessions import Claim
from gateway.rules.store import Store
from rules.dictionary import DictEngine, call


class Rules:
    """The calls of a `Store` on a `DictEngine`, without ``await``."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.engine = DictEngine()
        self.store = Store(self.engine, policy)
        self.recorder = Recorder()
        call(self.store.open(self.recorder))

    def login(self, *usernames: str) -> Session:
        """Claim names, each on a connection named like it; the session of the last one."""
        for username in usernames:
            session = call(self.store.attach_session(Claim(username, f"c-{username}")))
        return session

    def create_room(self, room: str, *members: str, history: str = events.ALL) -> None:
        """A room that the first of its members makes with the others."""
        call(self.store.create_room(members[0], room, members[1:], history))

    def add(self, room: str, *usernames: str, by: str) -> Added:
        return call(self.store.add_members(by, room, usernames))

    def leave(self, room: str, *usernames: str) -> None:
        for username in usernames:
            call(self.store.remove_member(username, room))

    def send(self, room: str, author: str, *contents: str, id_: str | None = None) -> str:
        """Append messages; the offset of the last one."""
        for content in contents:
            call(self.store.append_message(author, room, content, id_))
        return self.last_offset

    @property
    def last_offset(self) -> str:
        """The offset of the newest event that was published."""
        return next(effect.offset for effect in reversed(self.recorder.publications) if effect.offset is not None)

    async def counts(self, username: str) -> RoomCounts:
        """In how many rooms a user is."""

        async def count(tx: Transaction) -> RoomCounts:
            return (await tx.members.counts([username]))[username]

        return await self.engine.run(username, count)


@pytest.fixture
def rules() -> Rules:
    return Rules()
