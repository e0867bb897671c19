"""Plays random operations on an engine and on the model of it, and compares all that can be seen of the two."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from harness.inbox import TIMEOUT
from harness.waiting import poll_until
from model.calls import Call, ListRooms, Login, ReadHistory, attempt
from model.receivers import Arrived, Receivers
from model.world import Entry, Missed, Refused, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.engines.base import Policy
    from gateway.engines.effects import Publication
    from gateway.rules.store import Store
    from model.storage import Storage

UNKNOWN = object()
"""The outcome of a call that the engine was killed before it returned."""

CreateStorage: TypeAlias = "Callable[[Path, Policy, Play], Storage]"


class Contradiction(Exception):
    """What the engine did cannot be, in the order of calls that is being tried."""


class Violation(AssertionError):
    """The engine did what the model says it must not."""


class Play:
    """One engine, its model, and the clients that use it."""

    engine: Store

    def __init__(self, folder: Path, policy: Policy, create: CreateStorage, seed: int) -> None:
        """``create`` makes a storage, in a folder, whose engines take their time from the play."""
        self.random = random.Random(seed)  # noqa: S311 (no secret)
        self.storage = create(folder, policy, self)
        self.world = World(policy, self.storage.begin, self.storage.begin)
        self.receivers = Receivers()
        self.trail: list[str] = []
        """What was done, one line a step."""
        self._seed = seed
        self._numbers: dict[str, int] = {}
        """Which event of the model an offset names."""
        self._tried: dict[str, int] = {}
        """The same, in the order of calls that is being tried."""
        self._vague: list[range] = []
        """Numbers of events among which some were not published here: which of them is which is not known."""
        self._lost: dict[str, int] = {}
        """Offsets that were given out after a backup that was put back since, and what they named."""
        self._backups: list[tuple[Path, World, dict[str, int]]] = []

    # --- time, as the engine is given it

    def clock(self) -> float:
        return self.world.wall

    def monotonic(self) -> float:
        return self.world.monotonic

    # --- offsets

    def number(self, offset: str | None) -> int | None:
        """The number of the event that an offset names in the model; None where it names nothing."""
        if offset is None:
            return None
        lost = self._lost.get(offset, self.world.count + 1)
        return self._numbers.get(offset, lost if lost <= self.world.restored else None)

    def is_certain(self, offset: str | None) -> bool:
        """Whether an offset must name something. One that was given out after a backup may, if its event is in it."""
        return offset in self._numbers

    def bind(self, offset: str | None, number: int) -> None:
        """An event of the model was seen with that offset, in the order of calls that is being tried."""
        assert offset is not None, "a stored event without an offset"
        if not self._is_same(self._lost.get(offset, number), number):
            raise Contradiction(f"the offset {offset} was given out before the backup was restored, and again")
        known = self._numbers[offset] if offset in self._numbers else self._tried.setdefault(offset, number)
        if not self._is_same(known, number):
            raise Contradiction(f"the offset {offset} names two events")

    def _is_same(self, number: int, other: int) -> bool:
        return number == other or any(number in vague and other in vague for vague in self._vague)

    def missed(self, world: World, username: str, offset: str | None, replay: Sequence[Publication]) -> Missed:
        """What a user missed after an offset. Where the order of events is not known, those that were replayed."""
        number = self.number(offset)
        missed = world.missed(username, number, offset)
        for vague in self._vague:
            if number in vague and len(missed.entries) != len(replay):
                more = world.missed(username, vague.start - 1, offset)
                entries = [entry for entry in more.entries if entry.number != number]
                missed = replace(more, entries=entries if len(entries) == len(replay) else missed.entries)
        return missed

    def in_order_of(self, replay: Sequence[Publication], entries: list[Entry]) -> list[Entry]:
        """Entries as they are replayed, as far as their order is not known."""
        left = list(entries)
        for place, publication in enumerate(replay[: len(left)]):
            for later in range(place, len(left)):
                if self._is_same(left[place].number, left[later].number) and is_replay_of(left[later], publication):
                    left.insert(place, left.pop(later))
                    break
        return left

    def _adopt(self, world: World) -> None:
        """The order of calls that was tried explains what the engine did."""
        self.world = world
        numbers = [entry.number for entry in world.appended]
        if not {*numbers} <= {*self._tried.values()}:
            self._vague.append(range(numbers[0], numbers[-1] + 1))
        world.sent.clear()
        world.appended.clear()
        self._numbers |= self._tried

    def offsets(self) -> list[str]:
        """All offsets that any client ever saw."""
        return [*self._numbers, *self._lost]

    # --- steps

    async def start(self) -> None:
        await self.storage.start()
        await self._open()

    async def close(self) -> None:
        await self.engine.close(5)
        await self.storage.close()

    async def _open(self) -> None:
        """Open the store with a new engine, and wait until what was live before is suspended."""
        self.engine, self.receivers = await self.storage.create(), Receivers()
        await self.engine.open(self.receivers)
        await poll_until(self._is_nobody_online)

    async def _is_nobody_online(self) -> bool:
        await self.engine.suspend_orphaned_sessions()
        return not (await self.engine.find_users("anybody", "", 1)).users

    async def step(self, *calls: Call) -> list[Any]:
        """Make calls, all at the same time; the engine may have taken them up in any order that keeps each user's."""
        self.trail.append(" | ".join(map(repr, calls)))
        outcomes = await asyncio.gather(*(attempt(call, self) for call in calls))
        arrived = self.receivers.take()
        self._accept(calls, list(outcomes), arrived, complete=True)
        return list(outcomes)

    def _accept(self, calls: tuple[Call, ...], outcomes: list[Any], arrived: Arrived, *, complete: bool) -> None:
        problems: dict[str, None] = {}
        self.world.ahead = self.storage.ahead()
        for order in _orders(calls):
            world = copy.deepcopy(self.world) if len(calls) > 1 else self.world
            problem = self._mismatch(world, [(calls[at], outcomes[at]) for at in order], arrived, complete=complete)
            if problem is None:
                self._adopt(world)
                return
            problems[problem] = None
        raise self._violation("\n  or, in another order: ".join(problems))

    def _mismatch(self, world: World, made: list[tuple[Call, Any]], arrived: Arrived, *, complete: bool) -> str | None:
        """What of the engine's outcomes and events the model contradicts, with calls in that order."""
        self._tried = {}
        try:
            return self._difference(world, made, arrived, complete=complete)
        except Contradiction as contradiction:
            return str(contradiction)

    def _difference(
        self, world: World, made: list[tuple[Call, Any]], arrived: Arrived, *, complete: bool
    ) -> str | None:
        for call, got in made:
            problem = self._disagreement(world, call, got)
            if problem is not None:
                return problem
        return self._difference_in_the_log(world, arrived, complete=complete) or self._difference_in_what_is_received(
            world, arrived, complete=complete
        )

    def _difference_in_the_log(self, world: World, arrived: Arrived, *, complete: bool) -> str | None:
        entries = iter(world.appended)
        for event in arrived.appended:
            for entry in entries:
                if _is_publication_of(entry, event):
                    self.bind(event.offset, entry.number)
                    break
                if self.storage.publishes_all:
                    return f"stored was\n    {event}\n  where the model has\n    {entry}"
            else:
                return f"stored was\n    {event}\n  which the model has not"
        missing = [*entries] if complete and self.storage.publishes_all else []
        return f"the model has stored\n    {missing}" if missing else None

    def _difference_in_what_is_received(self, world: World, arrived: Arrived, *, complete: bool) -> str | None:
        sent, received = defaultdict(list), defaultdict(list)
        for event in world.sent:
            sent[event.connection, event.body["room"]].append(event)
        for received_event in arrived.received:
            received[received_event.connection, received_event.body["room"]].append(received_event)
        for key in {*sent, *received}:
            expected = [(event.event, event.body) for event in sent[key]]
            actual = [(event.event, event.body) for event in received[key]]
            if actual != (expected if complete else expected[: len(actual)]):
                return f"{key} received\n    {actual}\n  where the model has\n    {expected}"
            for expected_event, received_event in zip(sent[key], received[key], strict=False):
                if (expected_event.entry is None) != (received_event.offset is None):
                    return f"{received_event}: stored events have an offset, and no others"
                if expected_event.entry is not None:
                    self.bind(received_event.offset, expected_event.entry.number)
        return None

    def _disagreement(self, world: World, call: Call, got: Any) -> str | None:
        try:
            expected = call.expect(world, self, None if got is UNKNOWN else got)
        except Refused as refusal:
            if got is UNKNOWN or (isinstance(got, Refused) and got.codes <= refusal.codes):
                return None
            return f"{call}\n  returned {got}\n  where the model refuses with {set(refusal.codes)}"
        if got is not UNKNOWN and (isinstance(got, Refused) or expected != got):
            return f"{call}\n  returned {got!r}\n  where the model has {expected!r}"
        return None

    # --- the store comes and goes

    async def crash(self, *calls: Call) -> None:
        """Kill the engine while calls are under way: each user's may have been kept up to any one, but all that
        returned were.
        """
        self.trail.append(f"crash during {' | '.join(map(repr, calls))}")
        tasks = [asyncio.ensure_future(attempt(call, self)) for call in calls]
        for _ in range(1 + self.random.randrange(30)):
            await asyncio.sleep(0)
        if calls and self.random.random() < 0.5:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done = [task.result() if task.done() else UNKNOWN for task in tasks]
        arrived = self.receivers.take()
        await self.storage.kill(self.engine)
        await self._end(tasks)
        await self._open()
        await self._find_out(calls, done, arrived)

    async def _end(self, tasks: list[asyncio.Future[Any]]) -> None:
        """Wait until calls on an engine that was closed have ended, somehow."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*tasks)
        except TimeoutError:
            raise self._violation("calls on an engine that was closed never ended") from None

    async def _find_out(self, calls: tuple[Call, ...], done: list[Any], arrived: Arrived) -> None:
        """Which calls the engine had kept when it was killed: the first of each user's, as far as any explains all."""
        probes = [ListRooms(name) for name in sorted(self.world.sessions)]
        seen = [await attempt(probe, self) for probe in probes]
        first = ""
        self.world.ahead = self.storage.ahead()
        for order in _orders(calls):
            for kept in range(len(order), -1, -1):
                if any(done[at] is not UNKNOWN for at in order[kept:]):
                    break
                world = copy.deepcopy(self.world)
                problem = self._mismatch(world, [(calls[at], done[at]) for at in order[:kept]], arrived, complete=False)
                world.restart()
                problem = problem or await self._contradiction(world, probes, seen)
                if problem is None:
                    self._adopt(world)
                    return
                first = first or problem
        raise self._violation(f"after a kill: {first}")

    async def _contradiction(self, world: World, probes: list[ListRooms], seen: list[Any]) -> str | None:
        """What of the reopened store a world cannot explain."""
        try:
            return await self._look(world, probes, seen)
        except Contradiction as contradiction:
            return str(contradiction)

    async def _look(self, world: World, probes: list[ListRooms], seen: list[Any]) -> str | None:
        for probe, rooms in zip(probes, seen, strict=True):
            if (problem := self._disagreement(world, probe, rooms)) is not None:
                return problem
        for room in world.rooms.values():
            reading = ReadHistory(min(room.members), room.name, 100)
            if (problem := self._disagreement(world, reading, await attempt(reading, self))) is not None:
                return problem
        return None

    async def restart(self) -> None:
        """Close the engine and open it again."""
        self.trail.append("restart")
        assert await self.engine.close(5)
        self.world.restart()
        await self._open()

    async def back_up(self) -> None:
        self.trail.append("back up")
        self._backups.append((await self.storage.back_up(), copy.deepcopy(self.world), dict(self._numbers)))

    @property
    def has_backup(self) -> bool:
        return bool(self._backups)

    async def restore(self) -> None:
        """Put a backup in the place of the store."""
        backup, world, numbers = self.random.choice(self._backups)
        self.trail.append(f"restore {backup.name}")
        await self.engine.close(5)
        await self.storage.restore(backup)
        world = copy.deepcopy(world)
        world.wall, world.monotonic, world.stepped = self.world.wall, self.world.monotonic, True
        world.restored = world.count
        self._vague = [vague for vague in self._vague if vague[-1] <= world.count]
        self._lost = {offset: at for offset, at in (self._lost | self._numbers).items() if offset not in numbers}
        self._numbers = dict(numbers)
        self.world = world
        world.restart()
        await self._open()

    async def expire(self) -> None:
        """End all sessions whose window is over, in an order that is up to the engine."""
        self.trail.append("expire")
        while await self.engine.end_expired_sessions():
            pass
        seen = list(dict.fromkeys(self.receivers.left))
        arrived = self.receivers.take()
        problem: str | None = None
        for order in _merges(seen, [name for name in self.world.over() if name not in seen]):
            world = copy.deepcopy(self.world)
            world.expire(order)
            problem = self._mismatch(world, [], arrived, complete=True)
            if problem is None:
                self._adopt(world)
                return
        raise self._violation(problem or "")

    def _violation(self, problem: str) -> Violation:
        steps = "\n".join(f"  {line}" for line in self.trail[-40:])
        return Violation(f"seed {self._seed}, step {len(self.trail)}: {problem}\nafter\n{steps}")


def _merges(seen: list[str], unseen: list[str]) -> Iterator[list[str]]:
    """All orders of names in which those in ``seen`` keep theirs."""
    if not unseen:
        yield seen
    for order in _merges(seen, unseen[1:]) if unseen else ():
        for place in range(len(order), -1, -1):
            yield [*order[:place], unseen[0], *order[place:]]


def _is_publication_of(entry: Entry, publication: Publication) -> bool:
    recipients = None if entry.recipient is None else (entry.recipient,)
    return (entry.author, recipients) == (publication.author, publication.recipients) and is_replay_of(
        entry, publication
    )


def is_replay_of(entry: Entry, publication: Publication) -> bool:
    return (entry.event, entry.body) == (publication.event, orjson.loads(publication.body))


def _orders(calls: tuple[Call, ...]) -> Iterator[tuple[int, ...]]:
    """All orders of calls in which each user's keep theirs, as places in ``calls``. Log-ins may overtake each other:
    one that is given what it missed may take several steps.
    """
    for order in itertools.permutations(range(len(calls))):
        if all(a < b or _may_overtake(calls[a], calls[b]) for a, b in itertools.combinations(order, 2)):
            yield order


def _may_overtake(late: Call, early: Call) -> bool:
    """Whether a call may take effect before one that was begun earlier."""
    return late.actor != early.actor or (isinstance(late, Login) and isinstance(early, Login))
