"""The calls of users: each is made on the engine and on the model, and both must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from gateway.errors import GatewayError, UsernameTaken
from gateway.rules.sessions import Claim, ResumePoint
from model.world import Receipt, Refused

if TYPE_CHECKING:
    from gateway.events import Room
    from model.play import Play
    from model.world import World


class Call(Protocol):
    """``run`` gives what the engine returned; ``expect`` what the model would have returned, or raises `Refused`.

    An outcome that is up to the engine, within the contract, is taken from ``got``, what it returned; that is None
    where the engine was killed before it could.
    """

    actor: str

    async def run(self, play: Play) -> Any: ...
    def expect(self, world: World, play: Play, got: Any) -> Any: ...


async def attempt(call: Call, play: Play) -> Any:
    """What a call returns; a refusal is an outcome, too."""
    try:
        return await call.run(play)
    except GatewayError as error:
        return Refused(error.code)


def shape(room: Room) -> dict[str, Any]:
    """A room's shape as its JSON has it."""
    decoded: dict[str, Any] = orjson.loads(orjson.dumps(room.as_dict()))
    return decoded


@dataclass
class Login:
    """A client connects: with nothing, or with a pid and an offset that it has or makes up."""

    actor: str
    connection: str
    pid: str | None = None
    offset: str | None = None

    async def run(self, play: Play) -> Any:
        resume = None if self.pid is None else ResumePoint(self.pid, self.offset)
        try:
            await play.engine.attach_session(Claim(self.actor, self.connection, resume))
        except UsernameTaken as taken:
            return Taken(taken.retry_after)
        return play.receivers.attachments[self.connection]

    def expect(self, world: World, play: Play, got: Any) -> Any:
        session = world.sessions.get(self.actor)
        if session is None or (self.pid not in session.pids and world.is_claimable(session)):
            if isinstance(got, Taken):
                return f"{self.actor} is free"
            before = world.count
            world.claim(self.actor, self.connection, got.session.sid, got.session.pid)
            world.sessions[self.actor].welcome = got.offset
            play.bind(got.offset, world.count if play.storage.sees_own_writes else before)
            return got if not got.recovered and got.rooms == () and got.missed == () else "a new session"
        if self.pid not in session.pids:
            return self._taken(world, session.connection is None, session.suspended_at, got)
        return self._resumed(world, play, got)

    def _taken(self, world: World, suspended: bool, since: float, got: Any) -> Any:
        if not isinstance(got, Taken):
            return "username_taken"
        if not suspended:
            return Taken(None)
        left = since + world.policy.reserve_names - world.monotonic
        is_right = got.retry_after is not None and -0.01 < left - got.retry_after < 0.01 + world.ahead
        return got if is_right else Taken(left)

    def _resumed(self, world: World, play: Play, got: Any) -> Any:
        assert self.pid is not None
        if isinstance(got, Taken):
            return "resumed"
        sid = world.sessions[self.actor].sid
        missed = play.missed(world, self.actor, self.offset, got.missed)
        replaces = world.resume(self.actor, self.pid, self.connection)
        rooms = [world.shape(room, self.actor) for room in world.rooms_of(self.actor)]
        if got.recovered:
            world.recovered(self.actor, self.pid)
            entries = play.in_order_of(got.missed, missed.entries)
            expected = [(entry.event, entry.body) for entry in entries] if missed.complete else "not recovered"
            replayed = [(publication.event, orjson.loads(publication.body)) for publication in got.missed]
            offsets = [publication.offset for publication in got.missed]
            if expected == replayed:
                for offset, entry in zip(offsets, entries, strict=True):
                    play.bind(offset, entry.number)
        else:
            world.not_recovered(self.actor, self.pid, got.session.pid)
            expected = "recovered" if missed.certain and play.is_certain(self.offset) else []
            replayed = list(got.missed)
            if got.session.pid == self.pid:
                return "another pid: the stock client takes the same one for a recovery"
        given = (
            got.session.sid,
            replayed,
            [shape(room) for room in got.rooms],
            got.replaces and got.replaces.connection,
        )
        wanted = (sid, expected, rooms, replaces)
        return got if given == wanted else wanted


@dataclass(frozen=True)
class Taken:
    """The name is taken; for how long, in seconds, where its session is suspended."""

    retry_after: float | None


@dataclass
class Leave:
    """The client of a session leaves on purpose."""

    actor: str
    connection: str

    async def run(self, play: Play) -> Any:
        attachment = play.receivers.attachments[self.connection]
        await play.engine.end_session(attachment.session, self.connection)

    def expect(self, world: World, play: Play, got: Any) -> Any:
        world.end(self.actor, self.connection)


@dataclass
class Lose:
    """A connection is lost."""

    actor: str
    connection: str

    async def run(self, play: Play) -> Any:
        attachment = play.receivers.attachments[self.connection]
        play.receivers.forget(self.connection)
        await play.engine.suspend_session(attachment.session, self.connection)

    def expect(self, world: World, play: Play, got: Any) -> Any:
        world.suspend(self.actor, self.connection)


@dataclass
class CreateRoom:
    actor: str
    room: str
    users: tuple[str, ...]
    history: str = "all"

    async def run(self, play: Play) -> Any:
        return shape(await play.engine.create_room(self.actor, self.room, self.users, self.history))

    def expect(self, world: World, play: Play, got: Any) -> Any:
        return world.create_room(self.actor, self.room, self.users, self.history)


@dataclass
class AddMembers:
    actor: str
    room: str
    users: tuple[str, ...]

    async def run(self, play: Play) -> Any:
        added = await play.engine.add_members(self.actor, self.room, self.users)
        return {"added": added.added, "already": added.already, "declined": added.declined}

    def expect(self, world: World, play: Play, got: Any) -> Any:
        declined = got["declined"] if isinstance(got, dict) else ()
        return world.add_members(self.actor, self.room, self.users, declined)


@dataclass
class OpenDirect:
    actor: str
    user: str

    async def run(self, play: Play) -> Any:
        opened = await play.engine.open_direct(self.actor, self.user)
        return shape(opened.room), opened.declined

    def expect(self, world: World, play: Play, got: Any) -> Any:
        name, declined = ("", ()) if isinstance(got, Refused) else (got[0]["room"], got[1])
        return world.open_direct(self.actor, self.user, name, declined)


@dataclass
class LeaveRoom:
    actor: str
    room: str

    async def run(self, play: Play) -> Any:
        await play.engine.remove_member(self.actor, self.room)

    def expect(self, world: World, play: Play, got: Any) -> Any:
        world.remove_member(self.actor, self.room)


@dataclass
class Send:
    actor: str
    room: str
    content: str
    id: str | None

    async def run(self, play: Play) -> Any:
        receipt = await play.engine.append_message(self.actor, self.room, self.content, self.id)
        return Receipt(receipt.id, receipt.ts, receipt.duplicate)

    def expect(self, world: World, play: Play, got: Any) -> Any:
        receipt = got if isinstance(got, Receipt) else None
        return world.append_message(self.actor, self.room, self.content, self.id, receipt)


@dataclass
class Typing:
    actor: str
    room: str

    async def run(self, play: Play) -> Any:
        await play.engine.publish_typing(self.actor, self.room)

    def expect(self, world: World, play: Play, got: Any) -> Any:
        world.publish_typing(self.actor, self.room)


@dataclass
class ListRooms:
    actor: str

    async def run(self, play: Play) -> Any:
        return [shape(room) for room in await play.engine.list_rooms(self.actor)]

    def expect(self, world: World, play: Play, got: Any) -> Any:
        return [world.shape(room, self.actor) for room in world.rooms_of(self.actor)]


@dataclass
class ListMembers:
    """All pages of a room's members."""

    actor: str
    room: str
    limit: int

    async def run(self, play: Play) -> Any:
        names: list[str] = []
        while True:
            page = await play.engine.list_members(self.actor, self.room, names[-1] if names else "", self.limit)
            names += [member.username for member in page.members]
            if not page.more:
                return names

    def expect(self, world: World, play: Play, got: Any) -> Any:
        return sorted(world.room_of(self.actor, self.room).members)


@dataclass
class ReadHistory:
    """All pages of a room's history, newest page first."""

    actor: str
    room: str
    limit: int

    async def run(self, play: Play) -> Any:
        messages: list[dict[str, Any]] = []
        while True:
            before = messages[0]["offset"] if messages else None
            page = await play.engine.read_history(self.actor, self.room, before, self.limit)
            messages = [*map(orjson.loads, page.bodies), *messages]
            if not page.more:
                return messages

    def expect(self, world: World, play: Play, got: Any) -> Any:
        entries, sure = world.history(self.actor, self.room)
        if not isinstance(got, list) or not sure <= len(got) <= len(entries):
            return f"{sure} to {len(entries)} messages"
        entries = entries[len(entries) - len(got) :]
        for entry, message in zip(entries, got, strict=True):
            if message == {**entry.body, "offset": message["offset"]}:
                play.bind(message["offset"], entry.number)
        return [{**entry.body, "offset": message["offset"]} for entry, message in zip(entries, got, strict=True)]
