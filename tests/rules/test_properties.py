"""Whatever users do, and in whatever order: what the rules promise, on a store in dictionaries.

What a user receives is worked out from the effects alone, as a node does; a replay has to be exactly that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engines import conftest
from gateway import events
from gateway.engines.effects import Attachment, Effect, Movement, Publication, Session
from gateway.errors import GatewayError
from gateway.rules.sessions import Claim, ResumePoint
from rules.conftest import Rules
from rules.dictionary import call

POLICY = replace(conftest.POLICY, max_members=3, max_rooms=2)
"""Small enough to be reached."""

USERS = ("ann", "bob", "cid", "dan", "eve")
ROOMS = ("tea", "jam")

users = st.sampled_from(USERS)
rooms = st.sampled_from(ROOMS)
groups = st.lists(users, unique=True, max_size=3).map(tuple)


@dataclass
class Client:
    session: Session
    connection: str | None
    began: int
    """How many events its user had received when the session began."""


def pair(*names: str) -> str:
    """Names the two of a direct room."""
    return " ".join(sorted(names))


class Node:
    """Works out from effects who receives what, live or not: the feed of each user."""

    def __init__(self) -> None:
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.feeds: defaultdict[str, list[Publication]] = defaultdict(list)
        """The stored events of each user, in order."""
        self.attached: Attachment | None = None

    def committed(self, effects: Any) -> None:
        for effect in effects:
            self.apply(effect)

    def apply(self, effect: Effect) -> None:
        match effect:
            case Movement():
                self.members[effect.room] |= set(effect.joined)
                self.members[effect.room] -= set(effect.left)
            case Publication(offset=str()):
                recipients = effect.recipients
                for user in self.members[effect.room] if recipients is None else recipients:
                    if user != effect.author:
                        self.feeds[user].append(effect)
            case Attachment():
                self.attached = effect


class Conversations(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.rules = Rules(POLICY)
        self.engine, self.store = self.rules.engine, self.rules.store
        self.node = Node()
        call(self.store.open(self.node))
        self.clients: dict[str, Client] = {}
        self.lost_at: dict[str, int] = {}
        """When sessions were suspended, by sid."""
        self.connections = 0
        self.departed: dict[tuple[str, str], int] = {}
        """When users left rooms."""
        self.trimmed = 0
        """The newest position that was trimmed."""
        self.left: defaultdict[str, int] = defaultdict(int)
        """How many events each user had received when it last left a room."""
        for user in USERS:
            self.log_in(user)
        self.create_room("ann", "tea", ("bob", "cid"), events.ALL)

    def attempt(self, call_: Any) -> Any:
        """A call that may be refused; then nothing has happened."""
        before = self.fingerprint()
        try:
            return call(call_)
        except GatewayError:
            assert self.fingerprint() == before
            return None

    def fingerprint(self) -> object:
        data = self.engine.data
        members = {room_id: set(places) for room_id, places in data.members.items()}
        return data.newest, dict(data.sessions), members, dict(data.left), dict(self.node.feeds)

    # --- sessions

    @rule(user=users)
    def log_in(self, user: str) -> None:
        self.connections += 1
        connection = f"c{self.connections}"
        former, now = self.clients.get(user), self.engine.now
        session = self.attempt(self.store.attach_session(Claim(user, connection)))
        if former is not None and former.connection is not None:
            assert session is None, "a live name was claimed"
        if session is not None:
            assert former is None or now - self.suspended_at(former) >= POLICY.reserve_names * 1000
            self.departed = {key: at for key, at in self.departed.items() if key[1] != user}
            self.clients[user] = Client(session, connection, len(self.node.feeds[user]))

    def suspended_at(self, client: Client) -> int:
        return self.lost_at[client.session.sid]

    @rule(user=users)
    def lose(self, user: str) -> None:
        client = self.clients.get(user)
        if client is not None and client.connection is not None:
            call(self.store.suspend_session(client.session, client.connection))
            client.connection = None
            self.lost_at[client.session.sid] = self.engine.now

    @rule(user=users)
    def end(self, user: str) -> None:
        client = self.clients.get(user)
        if client is not None and client.connection is not None:
            call(self.store.end_session(client.session, client.connection))
            self.forget(user)

    def forget(self, user: str) -> None:
        """The session of a user has ended."""
        del self.clients[user]
        self.departed = {key: at for key, at in self.departed.items() if key[1] != user}
        assert all(user not in members for members in self.node.members.values())

    @rule(user=users, back=st.integers(0, 8), short=st.booleans())
    def come_back(self, user: str, back: int, short: bool) -> None:
        """With the offset of one of the last events: either all later ones follow, or it is not recovered."""
        client = self.clients.get(user)
        if client is None:
            return
        feed = self.node.feeds[user]
        seen = max(client.began, len(feed) - back)
        if seen == client.began:
            return  # it has the offset of its welcome, which no feed has
        offset = feed[seen - 1].offset
        self.connections += 1
        connection = f"c{self.connections}"
        self.engine.runs_short = short
        claim = Claim(user, connection, ResumePoint(client.session.pid, offset))
        session = call(self.store.attach_session(claim))
        self.engine.runs_short = False
        attached = self.node.attached
        assert attached is not None
        assert attached.session == session
        assert (attached.replaces and attached.replaces.connection) == client.connection
        if attached.recovered:
            assert session.pid == client.session.pid
            assert [missed.offset for missed in attached.missed] == [event.offset for event in feed[seen:]]
            assert [missed.body for missed in attached.missed] == [event.body for event in feed[seen:]]
        else:
            assert session.pid != client.session.pid
            was_trimmed = self.trimmed > int(offset or 0)
            has_left = self.left[user] > seen
            assert was_trimmed or has_left, "everything could have been replayed"
        self.clients[user] = Client(session, connection, client.began)

    @rule(seconds=st.sampled_from([1, 50, 100, 4000]))
    def wait(self, seconds: int) -> None:
        self.engine.now += 1000 * seconds
        while call(self.store.end_expired_sessions()):
            pass
        for user, client in list(self.clients.items()):
            if (
                client.connection is None
                and self.engine.now - self.suspended_at(client) >= POLICY.recovery_window * 1000
            ):
                self.forget(user)

    # --- rooms

    @rule(actor=users, room=rooms, others=groups, history=st.sampled_from([events.ALL, events.JOINED]))
    def create_room(self, actor: str, room: str, others: tuple[str, ...], history: str) -> None:
        was_there = bool(self.node.members[room])
        shape = self.attempt(self.store.create_room(actor, room, others, history))
        if shape is not None:
            assert not was_there
            self.departed = {key: at for key, at in self.departed.items() if key[0] != room}
            assert self.node.members[room] == {actor, *others}
            self.check_shape(shape)

    @rule(actor=users, room=rooms, others=groups)
    def add(self, actor: str, room: str, others: tuple[str, ...]) -> None:
        members = set(self.node.members[room])
        added = self.attempt(self.store.add_members(actor, room, others))
        if added is not None:
            assert set(added.already) == members & set(others)
            assert set(added.declined) == self.declining(room) & set(others) - members
            assert set(added.added) == set(others) - set(added.already) - set(added.declined)
            assert self.node.members[room] == members | set(added.added)

    def declining(self, room: str) -> set[str]:
        """Who has left a room, or the direct room of a `pair`, within the hour."""
        since = self.engine.now - 1000 * POLICY.decline_window
        return {user for (place, user), at in self.departed.items() if place == room and at > since}

    @rule(actor=users, others=groups)
    def add_to_direct(self, actor: str, others: tuple[str, ...]) -> None:
        for shape in call(self.store.list_rooms(actor)):
            if shape.kind == events.DIRECT:
                assert self.attempt(self.store.add_members(actor, shape.room, others)) is None

    @rule(room=rooms)
    def talk(self, room: str) -> None:
        for member in sorted(self.node.members[room]):
            self.send(member, room, again=False)

    @rule(actor=users, user=users)
    def open_direct(self, actor: str, user: str) -> None:
        if actor == user:
            return
        opened = self.attempt(self.store.open_direct(actor, user))
        if opened is not None:
            again = call(self.store.open_direct(actor, user))
            assert again == opened
            assert opened.declined == (() if user in self.node.members[opened.room.room] else (user,))
            assert set(opened.declined) <= self.declining(pair(actor, user))
            self.departed.pop((pair(actor, user), actor), None)
            assert self.node.members[opened.room.room] <= {actor, user}
            self.check_shape(opened.room)

    @rule(actor=users, direct=st.booleans(), room=rooms)
    def leave(self, actor: str, direct: bool, room: str) -> None:
        shapes = {shape.room: shape for shape in call(self.store.list_rooms(actor))}
        name = next((name for name, shape in shapes.items() if direct and shape.kind == events.DIRECT), room)
        if name in shapes:
            self.left[actor] = len(self.node.feeds[actor])
            other = shapes[name].user
            self.departed[name if other is None else pair(actor, other), actor] = self.engine.now
        self.attempt(self.store.remove_member(actor, name))
        assert actor not in self.node.members[name]

    @rule(actor=users, room=rooms, again=st.booleans())
    def send(self, actor: str, room: str, again: bool) -> None:
        id_ = f"{actor} {len(self.engine.data.log)}"
        receipt = self.attempt(self.store.append_message(actor, room, "hello", id_))
        assert (receipt is not None) == (actor in self.node.members[room])
        if again and receipt is not None:
            assert call(self.store.append_message(actor, room, "hello", id_)).duplicate

    @rule(number=st.integers(1, 4))
    def trim(self, number: int) -> None:
        rows = [row.position for row in self.engine.data.log if row.recipient is None]
        self.trimmed = max([self.trimmed, *rows[:number]])
        self.engine.trim(number)

    @precondition(lambda self: self.clients)
    @rule(user=users)
    def look(self, user: str) -> None:
        for shape in call(self.store.list_rooms(user)):
            self.check_shape(shape)

    def check_shape(self, shape: events.Room) -> None:
        members = self.node.members[shape.room]
        online = {user for user, client in self.clients.items() if client.connection is not None}
        shown = orjson.loads(shape.members)
        assert shown == [{"username": name, "online": name in online} for name in sorted(members)]
        assert shape.member_count == len(members)

    # --- what holds after everything

    @invariant()
    def rooms_have_members_and_members_sessions(self) -> None:
        if not hasattr(self, "engine"):
            return
        data = self.engine.data
        here = {session.username for session in data.sessions.values()}
        assert here == set(self.clients)
        for room in data.rooms.values():
            members = set(data.members[room.id])
            assert members == self.node.members[room.name]
            assert members <= here
            assert 0 < len(members) <= POLICY.max_members
        for user in here:
            counts = call(self.rules.counts(user))
            assert max(counts.own, counts.invited) <= POLICY.max_rooms


Conversations.TestCase.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
pytestmark = pytest.mark.timeout(400)


class TestConversations(Conversations.TestCase):  # type: ignore[name-defined,misc]
    """The state machine, for pytest."""
