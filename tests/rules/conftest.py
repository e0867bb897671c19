"""The rules on a store in dictionaries, and what it published."""

from __future__ import annotations

import pytest

from engines.conftest import POLICY, Recorder
from gateway.engines.base import Policy
from gateway.engines.transaction import RoomCounts, Transaction
from gateway.rules.sessions import Claim
from gateway.rules.store import Store
from rules.dictionary import DictEngine, call


class Rules:
    """The calls of a `Store` on a `DictEngine`, without ``await``."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.engine = DictEngine()
        self.store = Store(self.engine, policy)
        self.recorder = Recorder()
        call(self.store.open(self.recorder))

    def login(self, *usernames: str) -> None:
        """Claim names, each on a connection named like it."""
        for username in usernames:
            call(self.store.attach_session(Claim(username, f"c-{username}")))

    async def counts(self, username: str) -> RoomCounts:
        """In how many rooms a user is."""

        async def count(tx: Transaction) -> RoomCounts:
            return (await tx.members.counts([username]))[username]

        return await self.engine.run(username, count)


@pytest.fixture
def rules() -> Rules:
    return Rules()
