"""No operation of the store works for long at a time, whatever is stored, and none searches without an index."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from engines.large import HEAVY, POLICY, SINGLE, SIZE, LargeStore
from engines.machine import Machine
from engines.plans import Statements, faults
from gateway.commands.serve import GC_THRESHOLDS
from gateway.engines.base import Engine, Receipt, Rule
from gateway.engines.effects import Attachment, Session
from gateway.errors import GatewayError, InvalidPayload
from gateway.events import ALL
from gateway.rules.sessions import Claim, ResumePoint
from gateway.rules.store import Store

T = TypeVar("T")

LONGEST = 0.005
"""Seconds of the processor that one piece may take, on a calm machine (see ``machine``)."""

pytestmark = pytest.mark.timeout(600)


class Pieces:
    """Runs operations on a store, each in a transaction of its own, and measures them."""

    def __init__(self, store: LargeStore, **changes: int) -> None:
        self.store = store
        self.statements = Statements()
        policy = replace(POLICY, **changes)
        self.tx = store.open(policy)
        self.connection = self.tx._db
        self.calls = Store(cast("Engine", self), policy)
        self.name = ""
        """What is measured."""
        self.connection.execute("PRAGMA synchronous = OFF")  # what the disk takes is not measured here
        self.machine = Machine()
        self.took: dict[str, list[float]] = {}
        """Seconds, as a calm machine would take them, by what was done."""
        self.effects: list[object] = []
        self.measure("open", self.tx.open)
        self.took.clear()  # nobody is served before it is done

    def call(self, name: str, call: Coroutine[Any, Any, T]) -> T | None:
        """A call of the store, in as many pieces as it takes: the longest counts. None where it was refused."""
        self.name = name
        before = len(self.took.get(name, ()))
        try:
            call.send(None)
        except StopIteration as end:
            result: T = end.value
        except GatewayError:
            return None
        else:
            raise AssertionError("no call waits here")
        finally:
            pieces = self.took[name][before:]
            self.took[name][before:] = [max(pieces)] if pieces else []
        return result

    # --- an engine that does everything at once

    def running_ms(self) -> int:
        return self.tx.running_ms()

    async def run(self, client: str, rule: Rule[T], *, low_priority: bool = False) -> T:
        return self.measure(self.name, lambda: self.tx.run(rule))

    async def append_message(self, actor: str, names: Sequence[str], content: str, message_id: str | None) -> Receipt:
        return self.measure(self.name, lambda: self.tx.append_message(actor, names, content, message_id))

    def measure(self, name: str, operation: Callable[[], T]) -> T:
        """One piece, in a transaction of its own. The first one of a name is for its statements."""
        is_first = name not in self.took
        times = self.took.setdefault(name, [])
        self.connection.set_trace_callback(self.statements.note if is_first else None)
        self.tx.begin()
        slowness = self.machine.slowness()
        began = time.thread_time()
        try:
            return operation()
        finally:
            self.tx.flush()
            seconds = time.thread_time() - began
            if not is_first:
                times.append(2 * seconds / (slowness + self.machine.slowness()))
            self.tx.commit()
            self.connection.set_trace_callback(None)
            self.effects = list(self.tx.take_effects())

    def resume(self, name: str, username: str, offset: str | None) -> Attachment:
        """Come back."""
        claim = Claim(username, "c-back", ResumePoint(f"p-{username}", offset))
        assert self.call(name, self.calls.attach_session(claim)) is not None
        (attachment,) = [effect for effect in self.effects if isinstance(effect, Attachment)]
        return attachment

    def maintain(self, name: str) -> int:
        """Do all that was deferred; in how many pieces. What few of many take longer is the machine's."""
        while self.measure(name, self.tx.maintain):
            pass
        pieces = sorted(self.took[name])
        self.took[name] = [pieces[-1 - len(pieces) // 50]]
        return len(pieces)

    def count(self, query: str, *parameters: object) -> int:
        return int(self.connection.execute(query, parameters).fetchone()[0])

    def check(self) -> None:
        """Nothing took too long in every attempt, and nothing was looked for without an index."""
        table = {name: f"{1000 * min(times):.2f} ms" for name, times in self.took.items()}
        assert not {name: table[name] for name, times in self.took.items() if min(times) >= LONGEST}, table
        assert all(self.took.values()), self.took
        assert len(list(self.statements)) > 5
        assert faults(self.connection, self.statements) == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> LargeStore:
    return LargeStore(tmp_path_factory.mktemp("large") / "gateway.db")


@pytest.fixture
def pieces(built: LargeStore, tmp_path: Path) -> Iterator[Pieces]:
    """On a copy of the large store. Garbage is collected as rarely as in a gateway."""
    pieces = Pieces(built.copy(tmp_path / "gateway.db"))
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    yield pieces
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    pieces.connection.close()


def test_every_action_takes_short_slices(pieces: Pieces) -> None:
    calls = pieces.calls
    offset = pieces.tx.log.offset
    end = pieces.store.position
    befores = [
        None,
        "garbage",
        "id3",
        "id1",
        "x.77",
        f"own.{end // 3}",
        "nothing-7",
        offset(1),
        offset(end // 7),
        offset(end),
    ]
    for attempt in range(3):
        actor, room = HEAVY[attempt], f"shared{attempt:03}"
        users = tuple(f"user{SIZE.sessions // 2 + 1000 * attempt + number:06}" for number in range(100))
        pieces.call("list-rooms", calls.list_rooms(actor))
        pieces.call("list-members", calls.list_members(actor, room, "m", 100))
        for before in befores:
            pieces.call(f"history before {before}", calls.read_history(actor, room, before, 100))
        for prefix in ("", "user", f"user{SIZE.sessions // 2}", "zz", "%"):
            pieces.call(f"find-users {prefix}", calls.find_users(actor, prefix, 100))
        pieces.call("typing", calls.publish_typing(actor, room))
        for name, id_ in (("", None), ("with an id", f"new{attempt}"), ("again", f"new{attempt}")):
            pieces.call(f"send-msg {name}", calls.append_message(actor, room, "x" * 10_000, id_))
        pieces.call("create-room", calls.create_room(users[0], f"new{attempt}", users, ALL))
        pieces.call("open-direct", calls.open_direct(actor, users[1]))
        pieces.call("open-direct again", calls.open_direct(actor, users[1]))
        pieces.call("add-user", calls.add_members(actor, room, users))
        pieces.call("add-user again", calls.add_members(actor, room, users))
        pieces.call("leave-room", calls.remove_member(actor, room))
        pieces.call("leave-room, the last", calls.remove_member(SINGLE[attempt], f"{SINGLE[attempt]}-000"))
        pieces.call("create-room, its name again", calls.create_room(users[1], f"{SINGLE[attempt]}-000", (), ALL))
    for number in range(300):  # a room that is trimmed as it grows
        pieces.call("send-msg, trimming", calls.append_message("heavy05", "shared050", "x" * 10_000, f"t{number}"))
    pieces.took["send-msg, trimming"] = [sorted(pieces.took["send-msg, trimming"])[-10]]
    pieces.check()


def test_resuming_a_session_takes_short_slices(pieces: Pieces) -> None:
    """With a recent offset, an old one in quiet and in busy rooms, and an unknown one."""
    offset, end = pieces.tx.log.offset, pieces.store.position
    shared = 2 * SIZE.history * 100
    most = int(0.8 * POLICY.replay_size / ((SIZE.message + 200) / 2))  # every second event is a message
    for attempt in range(3):
        user = HEAVY[attempt]
        assert pieces.resume("from just now", user, offset(end)).missed == ()
        recent = pieces.resume("from a while ago", HEAVY[3 + attempt], offset(shared - most))
        assert (recent.recovered, len(recent.missed) > most / 2) == (True, True)
        assert not pieces.resume("from the beginning", HEAVY[6 + attempt], offset(0)).recovered
        assert not pieces.resume("from nowhere", HEAVY[9 + attempt], "000000000000-7").recovered
        alone = pieces.resume("who has spoken alone", SINGLE[attempt], offset(0))
        assert (alone.recovered, alone.missed) == (True, ())
    pieces.check()


def test_beginning_and_ending_a_session_takes_short_slices(pieces: Pieces) -> None:
    calls = pieces.calls
    found = iter(HEAVY)

    def held(username: str) -> tuple[Session, str]:
        attachment = pieces.resume("", username, None)
        return attachment.session, "c-back"

    for attempt in range(3):
        pieces.call("a new one", calls.attach_session(Claim(f"new{attempt}", "c")))
        session = held(next(found))
        pieces.call("suspend", calls.suspend_session(*session))
        session = held(next(found))
        pieces.call("end", calls.end_session(*session))
        pieces.call("its name again", calls.attach_session(Claim(session[0].username, "c")))
        name = next(found)
        pieces.call("the name of a suspended one", calls.attach_session(Claim(name, "c")))
    for single in SINGLE:
        session = held(single)
        pieces.call("end, the last of its rooms", calls.end_session(*session))
        assert pieces.count("SELECT count(*) FROM rooms WHERE name LIKE ?", f"{single}-%") == 0
    assert pieces.count("SELECT count(*) FROM ended_rooms") == 300
    pieces.took.pop("")
    pieces.check()


def test_expiring_many_sessions_takes_short_slices(pieces: Pieces) -> None:
    """However many there are, and whichever rooms they are in, one call does what it has time for."""
    pieces.connection.execute("UPDATE sessions SET suspended_at = -1000000000 WHERE suspended_at IS NOT NULL")
    pieces.connection.execute(
        "UPDATE sessions SET suspended_at = -2000000000 WHERE username LIKE 'heavy%' OR username LIKE 'single%'"
    )
    calls = 0
    while pieces.count("SELECT count(*) FROM sessions WHERE username LIKE 'heavy%' OR username LIKE 'single%'"):
        assert pieces.call("expire, in 200 rooms each", pieces.calls.end_expired_sessions())
        calls += 1
    assert calls <= len(HEAVY) + len(SINGLE)
    for _ in range(20):
        assert pieces.call("expire, in no rooms", pieces.calls.end_expired_sessions())
    for name in ("expire, in 200 rooms each", "expire, in no rooms"):
        pieces.took[name] = [sorted(pieces.took[name])[len(pieces.took[name]) * 3 // 4]]
    pieces.check()


def test_deleting_the_logs_of_ended_rooms_takes_short_slices(pieces: Pieces) -> None:
    """Their logs are deleted in many small slices, also where the gateway was stopped in between."""
    single = SINGLE[0]
    session = pieces.resume("", single, None).session
    pieces.call("", pieces.calls.end_session(session, "c-back"))
    pieces.took.clear()
    left = "SELECT count(*) FROM log WHERE room_id IN (SELECT room_id FROM ended_rooms)"
    assert pieces.count(left) == 100 * 2 * SIZE.history
    for _ in range(3):
        assert pieces.measure("a piece", pieces.tx.maintain)
    assert 0 < pieces.count(left) < 100 * 2 * SIZE.history
    again = Pieces.__new__(Pieces)
    pieces.connection.close()
    again.__init__(pieces.store)  # type: ignore[misc]
    assert again.maintain("the rest") > 1
    assert again.count("SELECT count(*) FROM ended_rooms") == 0
    assert again.count("SELECT count(*) FROM log WHERE room_id NOT IN (SELECT id FROM rooms)") == 0
    again.check()
    again.connection.close()


def test_a_smaller_history_is_trimmed_in_short_slices(built: LargeStore, tmp_path: Path) -> None:
    """Hundreds of thousands of events are too many: they go in small pieces, and meanwhile nobody sees them."""
    pieces = Pieces(built.copy(tmp_path / "gateway.db"), history_size=10)
    events = pieces.count("SELECT count(*) FROM log")
    page = pieces.call("history", pieces.calls.read_history("heavy00", "shared077", None, 100))
    assert page is not None
    assert len(page.bodies) == 10
    for room in ("shared077", "shared078", "shared079"):
        pieces.call("history", pieces.calls.read_history("heavy00", room, None, 100))
        pieces.call("send-msg", pieces.calls.append_message("heavy00", room, "x", None))
    assert pieces.count("SELECT count(*) FROM log") > events - 200
    assert pieces.maintain("maintenance") > 20
    most = pieces.count("SELECT max(n) FROM (SELECT count(*) AS n FROM log GROUP BY room_id, kind)")
    assert 10 <= most <= 11
    pieces.check()
    pieces.connection.close()


def test_old_message_ids_are_forgotten_in_short_slices(pieces: Pieces) -> None:
    rows = [(1, f"user{number % 1000}", f"id{number}", number, 1, -2_000_000_000) for number in range(5_000)]
    pieces.connection.executemany("INSERT INTO trimmed_messages VALUES (?, ?, ?, ?, ?, ?)", rows)
    assert pieces.maintain("maintenance") > 3
    assert pieces.count("SELECT count(*) FROM trimmed_messages") == 0
    pieces.check()


def test_an_unknown_before_is_refused_with_its_reason(pieces: Pieces) -> None:
    refused = pieces.calls.read_history("heavy00", "shared000", "garbage", 100)
    with pytest.raises(InvalidPayload):
        refused.send(None)
