"""Long work while others go on: it comes to an end, and nobody waits long for it."""

from __future__ import annotations

import pytest

from gateway.rules.recovery import EVENTS_AT_ONCE
from gateway.rules.sessions import Claim, ResumePoint
from rules.conftest import Rules
from rules.dictionary import call

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("rooms", [1, 3])
@pytest.mark.parametrize("short", [False, True])
def test_a_client_comes_back_to_rooms_that_are_never_quiet(rules: Rules, rooms: int, short: bool) -> None:
    """More is written after each transaction of its replay. It recovers all of it, in few transactions."""
    rules.login("alice", "bob")
    bob = rules.recorder.last_attachment
    for number in range(rooms):
        call(rules.store.create_room("alice", f"tea {number}", ("bob",)))
    sent: list[str] = []

    def write() -> None:
        rules.engine.between = lambda: None
        for number in range(rooms):
            sent.append(f"{len(sent)}")
            call(rules.store.append_message("alice", f"tea {number}", sent[-1], None))
        rules.engine.between = write

    for _ in range(20):
        write()
    call(rules.store.suspend_session(bob.session, "c-bob"))
    rules.engine.runs_short = short
    before = rules.engine.transactions
    call(rules.store.attach_session(Claim("bob", "c-back", ResumePoint(bob.session.pid, bob.offset))))
    attached = rules.recorder.last_attachment
    assert attached.recovered
    assert [missed.event for missed in attached.missed].count("message") >= 20 * rooms
    positions = [int(missed.offset or 0) for missed in attached.missed]
    assert positions == sorted(set(positions))
    assert rules.engine.transactions - before < 40 * rooms


def test_sessions_end_one_by_one_where_there_is_no_time_for_more(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    for effect in rules.recorder.effects[:3]:
        call(rules.store.suspend_session(effect.session, effect.holder.connection))  # type: ignore[union-attr]
    rules.engine.now += 200_000
    rules.engine.runs_short = True
    assert [call(rules.store.end_expired_sessions()) for _ in range(4)] == [1, 1, 1, 0]


def test_what_was_read_stays_read_whatever_is_trimmed_meanwhile(rules: Rules) -> None:
    """Trimming matters to what is still to be read alone."""
    rules.login("alice", "bob")
    bob = rules.recorder.last_attachment
    call(rules.store.create_room("alice", "tea", ("bob",)))
    call(rules.store.suspend_session(bob.session, "c-bob"))
    for number in range(EVENTS_AT_ONCE):
        call(rules.store.append_message("alice", "tea", str(number), None))
    rules.engine.runs_short = True
    last = rules.engine.transactions + 2  # one adds the room, one reads the messages

    def trim() -> None:
        if rules.engine.transactions == last:
            rules.engine.between = lambda: None
            rules.engine.trim(EVENTS_AT_ONCE)
            call(rules.store.append_message("alice", "tea", "later", None))

    rules.engine.between = trim
    call(rules.store.attach_session(Claim("bob", "c-back", ResumePoint(bob.session.pid, bob.offset))))
    attached = rules.recorder.last_attachment
    assert attached.recovered
    assert [missed.event for missed in attached.missed].count("message") == EVENTS_AT_ONCE + 1
