"""What a user missed, read in slices: all of it, once and in order, or nothing, whatever happens between two slices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from engines.conftest import POLICY
from gateway.engines.base import CLOCKS_DIFFER, Policy
from gateway.engines.effects import Attachment, Session
from gateway.engines.transaction import Transaction
from gateway.errors import Unavailable
from gateway.rules import recovery, sessions
from gateway.rules.recovery import Replay
from gateway.rules.sessions import FEW_STEPS, Claim, ResumePoint
from rules.conftest import Rules
from rules.dictionary import call

pytestmark = pytest.mark.fast

MANY = 3 * recovery.EVENTS_AT_ONCE
"""Messages that no slice reads at once, where slices are short."""


def resume(
    rules: Rules,
    session: Session,
    offset: str,
    *,
    policy: Policy = POLICY,
    short: bool = True,
    between: Callable[[int], object] = lambda slice_: None,
) -> tuple[Attachment, int]:
    """Log in with the offset of the last event seen; how it came out, and how many slices the replay took.

    ``short``: a slice reads one batch. ``between`` is called with the number of each slice but the last.
    """
    claim = Claim(session.username, "c-back", ResumePoint(session.pid, offset))
    came = rules.engine.now
    replay: Replay | None = None

    async def attach(tx: Transaction) -> Session | Replay:
        return await sessions.attach(tx, policy, claim, came, replay)

    for slice_ in itertools.count(1):
        rules.engine.runs_short = short
        attached = call(rules.engine.run(session.username, attach))
        rules.engine.runs_short = False
        if isinstance(attached, Session):
            break
        replay = attached
        between(slice_)
    return rules.recorder.last_attachment, slice_


def missed(attachment: Attachment) -> list[str]:
    """The content of each message that was missed, or the name of the event and of the room."""
    bodies = [(event.event, orjson.loads(event.body)) for event in attachment.missed]
    return [body.get("content", f"{event} {body['room']}") for event, body in bodies]


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


@pytest.fixture(name="bob")
def _bob(rules: Rules) -> Session:
    """Is in the room "tea" with alice, and has seen all of it."""
    bob = rules.login("alice", "carol", "bob")
    rules.create_room("tea", "alice", "bob")
    return bob


def test_a_replay_in_short_slices_is_whole_and_in_order(rules: Rules, bob: Session) -> None:
    rules.create_room("jam", "carol", "bob")
    offset = rules.last_offset
    for number in range(MANY):
        author, room = (("alice", "tea"), ("carol", "jam"), ("bob", "tea"))[number % 3]
        rules.send(room, author, str(number))
    attachment, slices = resume(rules, bob, offset)
    assert attachment.recovered
    assert missed(attachment) == [str(number) for number in range(MANY) if number % 3 != 2]
    assert slices > 2


def test_a_replay_is_the_same_in_one_slice_and_in_many(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    long, few = resume(rules, bob, offset, short=False)
    short, many = resume(rules, bob, offset)
    assert long.missed == short.missed
    assert few < many


def test_a_short_replay_resumes_the_session_in_the_transaction_that_read_it(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, FEW_STEPS // 2))
    attachment, slices = resume(rules, bob, offset, short=False)
    assert (missed(attachment), slices) == (numbers(0, FEW_STEPS // 2), 1)
    rules.send("tea", "alice", *numbers(0, FEW_STEPS))
    _, slices = resume(rules, bob, offset, short=False)
    assert slices == 2


def test_more_rooms_than_are_read_together_are_all_read() -> None:
    count = recovery.ROOMS_AT_ONCE + 2
    rules = Rules(replace(POLICY, max_rooms=count))
    bob = rules.login("alice", "bob")
    for number in range(count):
        rules.create_room(f"room {number}", "alice", "bob")
    offset = rules.last_offset
    for number in reversed(range(count)):
        rules.send(f"room {number}", "alice", str(number))
    attachment, _ = resume(rules, bob, offset, policy=rules.policy)
    assert (attachment.recovered, missed(attachment)) == (True, numbers(0, count)[::-1])


def test_what_is_sent_between_two_slices_is_part_of_the_replay(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    sent = itertools.count(MANY)

    def send(slice_: int) -> None:
        if slice_ <= 3:
            rules.send("tea", "alice", str(next(sent)))

    attachment, _ = resume(rules, bob, offset, between=send)
    assert (attachment.recovered, missed(attachment)) == (True, numbers(0, MANY + 3))


# --- trimmed between two slices


def test_what_is_trimmed_before_it_was_read_is_no_recovery(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    attachment, slices = resume(rules, bob, offset, between=lambda _: rules.engine.trim(1))
    assert (attachment.recovered, attachment.missed, slices) == (False, (), 2)
    assert attachment.session.pid != bob.pid
    assert [room.room for room in attachment.rooms] == ["tea"]


def test_what_is_trimmed_after_it_was_read_is_in_the_replay(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))

    def trim(_: int) -> None:
        rules.send("tea", "alice", "last")
        rules.engine.trim(MANY)

    attachment, slices = resume(rules, bob, offset, short=False, between=trim)
    assert (attachment.recovered, slices) == (True, 2)
    assert missed(attachment) == [*numbers(0, MANY), "last"]


def test_ones_own_messages_may_be_trimmed_between_two_slices(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "bob", *numbers(0, 5))
    rules.send("tea", "alice", *numbers(0, MANY))
    trimmed = iter([5])
    attachment, _ = resume(rules, bob, offset, between=lambda _: rules.engine.trim(next(trimmed, 0)))
    assert (attachment.recovered, missed(attachment)) == (True, numbers(0, MANY))


# --- joined and left between two slices


def test_a_room_joined_between_two_slices_is_part_of_the_replay(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))

    def invite(slice_: int) -> None:
        if slice_ == 1:
            rules.create_room("jam", "carol", "alice")
            rules.send("jam", "alice", "before")
            rules.add("jam", "bob", by="carol")
            rules.send("jam", "alice", "after")

    attachment, _ = resume(rules, bob, offset, between=invite)
    assert attachment.recovered
    assert missed(attachment) == [*numbers(0, MANY), "room-joined jam", "after"]
    assert [room.room for room in attachment.rooms] == ["jam", "tea"]


def test_a_room_with_missed_events_that_is_left_between_two_slices_is_no_recovery(rules: Rules, bob: Session) -> None:
    """What was read of it is not given as if the user were a member."""
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    attachment, slices = resume(rules, bob, offset, between=lambda _: rules.leave("tea", "bob"))
    assert (attachment.recovered, attachment.missed, attachment.rooms, slices) == (False, (), (), 2)


def test_a_room_with_nothing_missed_may_be_left_between_two_slices(rules: Rules, bob: Session) -> None:
    rules.create_room("jam", "carol", "bob")
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    quiet = iter(["jam"])

    def leave(_: int) -> None:
        for room in quiet:
            rules.leave(room, "bob")

    attachment, _ = resume(rules, bob, offset, between=leave)
    assert (attachment.recovered, missed(attachment)) == (True, numbers(0, MANY))
    assert [room.room for room in attachment.rooms] == ["tea"]


def test_a_room_left_and_joined_again_between_two_slices_is_read_from_the_second_join(
    rules: Rules, bob: Session
) -> None:
    rules.create_room("jam", "carol", "bob")
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))

    def move(slice_: int) -> None:
        if slice_ == 1:
            rules.leave("jam", "bob")
            rules.send("jam", "carol", "between")
            rules.engine.now += 1000 * int(POLICY.decline_window)
            rules.add("jam", "bob", by="carol")
            rules.send("jam", "carol", "after")

    attachment, _ = resume(rules, bob, offset, between=move)
    assert attachment.recovered
    assert missed(attachment) == [*numbers(0, MANY), "room-joined jam", "after"]


# --- the session between two slices


def test_a_session_that_ends_between_two_slices_is_not_resumed(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    attachment, _ = resume(rules, bob, offset, between=lambda _: call(rules.store.end_session(bob, "c-bob")))
    assert attachment.session.sid != bob.sid
    assert (attachment.recovered, attachment.missed, attachment.rooms) == (False, (), ())


def test_of_two_log_ins_to_one_session_at_about_the_same_time_the_slower_one_wins(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    claim = Claim("bob", "c-other", ResumePoint(bob.pid, offset))
    attachment, _ = resume(rules, bob, offset, between=lambda _: call(rules.store.attach_session(claim)))
    assert (attachment.replaces and attachment.replaces.connection) == "c-other"
    assert (attachment.recovered, missed(attachment)) == (True, numbers(0, MANY))


def test_a_log_in_does_not_take_the_session_from_one_that_came_later(rules: Rules, bob: Session) -> None:
    """The client gave up waiting for it, and came back on another connection."""
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))
    later = Claim("bob", "c-later", ResumePoint(bob.pid, offset))

    def come_back(slice_: int) -> None:
        rules.engine.now += CLOCKS_DIFFER + 1
        call(rules.store.attach_session(later))

    with pytest.raises(Unavailable, match="A later log-in has had the session"):
        resume(rules, bob, offset, between=come_back)
    assert rules.recorder.last_attachment.holder.connection == "c-later"
    again, _ = resume(rules, bob, offset)
    assert (again.replaces and again.replaces.connection, missed(again)) == ("c-later", numbers(0, MANY))


def test_nor_does_it_after_that_one_was_lost(rules: Rules, bob: Session) -> None:
    """The pid that the later one was given would be void, and its client could not come back."""
    offset = rules.last_offset
    rules.send("tea", "alice", *numbers(0, MANY))

    def come_and_go(slice_: int) -> None:
        rules.engine.now += CLOCKS_DIFFER + 1
        call(rules.store.attach_session(Claim("bob", "c-later", ResumePoint(bob.pid, None))))
        call(rules.store.suspend_session(bob, "c-later"))

    with pytest.raises(Unavailable, match="A later log-in has had the session"):
        resume(rules, bob, offset, between=come_and_go)
    later = rules.recorder.last_attachment.session
    assert later.pid != bob.pid
    attachment, _ = resume(rules, later, None)
    assert attachment.session.sid == bob.sid


# --- bounds


def test_a_replay_may_be_as_large_as_the_policy_says_and_no_larger(rules: Rules, bob: Session) -> None:
    offset = rules.last_offset
    rules.send("tea", "alice", "one", "two", "three")
    size = sum(len(event.body) for event in rules.recorder.publications[-3:])
    attachment, _ = resume(rules, bob, offset, policy=replace(POLICY, replay_size=size))
    assert (attachment.recovered, missed(attachment)) == (True, ["one", "two", "three"])
    attachment, _ = resume(rules, bob, offset, policy=replace(POLICY, replay_size=size - 1))
    assert (attachment.recovered, attachment.missed) == (False, ())


def test_an_invitation_is_replayed_to_those_who_have_not_seen_it(rules: Rules) -> None:
    bob = rules.login("alice", "bob")
    rules.create_room("tea", "alice", "bob")
    invited = rules.last_offset
    rules.create_room("jam", "bob", "alice")
    rules.send("tea", "alice", "one")
    for offset, expected in ((str(int(invited) - 1), ["room-joined tea", "one"]), (invited, ["one"])):
        attachment, _ = resume(rules, bob, offset)
        assert (attachment.recovered, missed(attachment)) == (True, expected)
