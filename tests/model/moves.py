"""Which operations are played, and how often: users talk, come and go, and their store is killed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from model.calls import (
    AddMembers,
    Call,
    CreateRoom,
    Leave,
    LeaveRoom,
    ListMembers,
    ListRooms,
    Login,
    Lose,
    OpenDirect,
    ReadHistory,
    Send,
    Typing,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from model.play import Play

USERS = ("ann", "bea", "cid", "dan", "eve", "fay", "gus")
ROOMS = ("tea", "cake", "rum", "jam")
DAY = 86_400.0


class Moves:
    """Draws the next step of a `Play`, from its random numbers."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._random = play.random
        self._connections = itertools.count()
        self._contents = itertools.count()
        steps: dict[Callable[[], Awaitable[object]], int] = {
            self.log_in: 12,
            self.come_back: 14,
            self.lose: 10,
            self.leave: 2,
            self.act: 40,
            self.act_together: 12,
            self.race_for_a_name: 3,
            self.burst: 6,
            self.look: 8,
            self.wait: 6,
            self.step_the_clock: int(play.storage.uses_system_clock),
            self.crash: 3,
            self.restart: 1,
            self.back_up: 1,
            self.restore: 1,
        }
        self._steps, self._weights = list(steps), list(steps.values())

    async def play(self) -> None:
        (step,) = self._random.choices(self._steps, self._weights)
        await step()

    # --- connections

    def _connection(self) -> str:
        return f"c{next(self._connections)}"

    def _live(self) -> list[tuple[str, str]]:
        """Users with a connection, and which."""
        sessions = self._play.world.sessions.items()
        return [(name, session.connection) for name, session in sessions if session.connection is not None]

    async def log_in(self) -> None:
        away = [name for name in USERS if name not in self._play.world.sessions]
        await self._play.step(Login(self._random.choice(away or USERS), self._connection()))

    def _resumption(self, username: str) -> Login:
        """A client comes back, mostly with what it should have, at times with anything else."""
        session = self._play.world.sessions[username]
        pids = [pid for other in self._play.world.sessions.values() for pid in other.pids]
        pid = self._random.choice(session.pids if self._random.random() < 0.9 else [*pids, "made up"])
        offsets = self._play.offsets()[-40:] if self._random.random() < 0.9 else self._play.offsets()
        offset = self._random.choice([*offsets, "made-up-1", None]) if offsets else None
        if offsets and self._random.random() < 0.5:
            offset = offsets[-1]
        return Login(username, self._connection(), pid, offset)

    async def come_back(self) -> None:
        sessions = self._play.world.sessions
        suspended = [name for name, session in sessions.items() if session.connection is None]
        pool = suspended if suspended and self._random.random() < 0.8 else list(sessions)
        if pool:
            await self._play.step(self._resumption(self._random.choice(pool)))

    async def race_for_a_name(self) -> None:
        """New and returning clients want one name at the same time."""
        name = self._random.choice(USERS)
        known = name in self._play.world.sessions
        claims = [self._resumption(name) if known and self._random.random() < 0.5 else None for _ in range(3)]
        await self._play.step(*(claim or Login(name, self._connection()) for claim in claims))

    async def lose(self) -> None:
        if live := self._live():
            await self._play.step(Lose(*self._random.choice(live)))

    async def leave(self) -> None:
        if live := self._live():
            await self._play.step(Leave(*self._random.choice(live)))

    # --- actions

    def _room_of(self, username: str) -> str:
        """Mostly one of the user's rooms."""
        rooms = [room.name for room in self._play.world.rooms_of(username)]
        return self._random.choice(rooms if rooms and self._random.random() < 0.95 else ROOMS)

    def _some_users(self, most: int) -> tuple[str, ...]:
        pool = list(self._play.world.sessions) if self._random.random() < 0.95 else list(USERS)
        return tuple(self._random.sample(pool, self._random.randint(1, min(most, len(pool))))) if pool else USERS[:1]

    def _action(self, actor: str) -> Call:
        kind = self._random.choices(["send", "create", "add", "leave", "direct", "typing"], [12, 3, 4, 2, 2, 1])[0]
        room = self._room_of(actor)
        if kind == "create":
            history = self._random.choice(["all", "joined"])
            return CreateRoom(actor, self._random.choice(ROOMS), self._some_users(4), history)
        if kind == "add":
            return AddMembers(actor, room, self._some_users(3))
        if kind == "leave":
            return LeaveRoom(actor, room)
        if kind == "direct":
            return OpenDirect(actor, self._random.choice([name for name in USERS if name != actor]))
        if kind == "typing":
            return Typing(actor, room)
        return self._send(actor, room)

    def _send(self, actor: str, room: str) -> Send:
        content = f"{actor} {next(self._contents)}"
        name = self._random.choice([None, f"id{self._random.randrange(30)}", content])
        return Send(actor, room, content, name)

    async def act(self) -> None:
        if live := self._live():
            await self._play.step(self._action(self._random.choice(live)[0]))

    async def act_together(self) -> None:
        """Several actions at the same time, of one user or of several."""
        if live := self._live():
            actors = [self._random.choice(live)[0] for _ in range(self._random.randint(2, 4))]
            await self._play.step(*(self._action(actor) for actor in actors))

    async def burst(self) -> None:
        """One user talks until the room's log is trimmed."""
        if live := self._live():
            actor = self._random.choice(live)[0]
            room = self._room_of(actor)
            for _ in range(self._random.randrange(30)):
                await self._play.step(self._send(actor, room))

    async def look(self) -> None:
        if live := self._live():
            actor = self._random.choice(live)[0]
            room = self._room_of(actor)
            await self._play.step(ListRooms(actor))
            await self._play.step(ListMembers(actor, room, self._random.randint(1, 3)))
            await self._play.step(ReadHistory(actor, room, self._random.choice([1, 5, 100])))

    # --- time, and the store

    async def wait(self) -> None:
        """Time passes, from less than a window to more than the decline window. (No sum of these is a little less than
        a window: time may also pass by itself.)
        """
        seconds = self._random.choice([20.0, 40.0, 80.0, 140.0, 4000.0])
        self._play.trail.append(f"{seconds:g} s pass")
        self._play.world.wall += seconds
        self._play.world.monotonic += seconds
        await self._play.expire()

    async def step_the_clock(self) -> None:
        """The system clock is set; the monotonic one is not affected."""
        seconds = self._random.choice([-DAY, -10.0, 10.0, DAY])
        self._play.trail.append(f"the clock is set by {seconds:g} s")
        self._play.world.wall += seconds
        self._play.world.stepped = True
        await self._play.expire()

    async def crash(self) -> None:
        """The engine is killed while somebody acts."""
        live = self._live()
        calls: list[Call] = []
        if live:
            actor = self._random.choice(live)[0]
            room = self._room_of(actor)
            calls = [Send(actor, room, f"{actor} {number}", f"crash{number}") for number in self._numbers()]
        await self._play.crash(*calls)

    def _numbers(self) -> list[int]:
        return [next(self._contents) for _ in range(self._random.randrange(6))]

    async def restart(self) -> None:
        await self._play.restart()

    async def back_up(self) -> None:
        await self._play.back_up()

    async def restore(self) -> None:
        if self._play.has_backup:
            await self._play.restore()
