"""The guarantees of `gateway/engines/base.py`, on every store."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from engines.conftest import POLICY, Store
from gateway.engines.base import Receipt
from gateway.engines.effects import Holder, Movement, Publication, Session
from gateway.errors import (
    GatewayError,
    InvalidPayload,
    LimitReached,
    RoomExists,
    RoomNotFound,
    UnknownUser,
    UsernameTaken,
)
from gateway.rules.sessions import EXPIRED_AT_ONCE, Claim

pytestmark = pytest.mark.fast

BEYOND = 10
"""More than how many positions an engine uses for a call, events and all."""


async def contents(store: Store, actor: str, room: str, **page: object) -> list[str]:
    history = await store.read_history(actor, room, page.get("before"), page.get("limit", 100))  # type: ignore[arg-type]
    return [orjson.loads(message)["content"] for message in history.bodies]


async def test_the_calls_of_one_client_take_effect_in_order(store: Store) -> None:
    """A client need not wait for a call to know its order: its next message may be begun before the last one
    is kept. What two clients do at the same time has one order too, the same for everybody.
    """
    await store.login("alice", "bob")
    begun = [store.create_room("alice", "tea", ()), store.append_message("alice", "tea", "0", None)]
    begun += [store.add_members("alice", "tea", ("bob",)), store.append_message("alice", "tea", "1", None)]
    assert not any(isinstance(result, GatewayError) for result in await asyncio.gather(*begun, return_exceptions=True))
    calls = [
        store.append_message("bob" if number % 2 else "alice", "tea", str(number), None) for number in range(2, 100)
    ]
    calls += [store.remove_member("bob", "tea"), store.append_message("bob", "tea", "too late", None)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [number for number, result in enumerate(results) if isinstance(result, GatewayError)] == [99]
    sent = [int(fields["content"]) for event, fields in store.recorder.events if event == "message"]
    assert sent[:2] == [0, 1]
    assert [number for number in sent if number % 2] == list(range(1, 100, 2))
    assert [number for number in sent if not number % 2] == list(range(0, 100, 2))


async def test_a_call_cancelled_before_it_is_taken_up_changes_nothing(store: Store) -> None:
    """The next call of its client comes after it as usual."""
    waiting = asyncio.ensure_future(store.attach_session(Claim("alice", "c-1", None)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    session = await store.attach_session(Claim("alice", "c-2", None))
    assert store.recorder.effects == [store.recorder.last_attachment]
    assert store.recorder.last_attachment.session == session


async def test_a_commit_does_not_deliver_too_much_at_once(store: Store) -> None:
    """However many operations wait, a batch ends with the event that makes it large enough."""
    await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    size = POLICY.commit_size // 5
    await asyncio.gather(*(store.append_message("alice", "tea", "x" * size, None) for _ in range(50)))
    assert len(store.recorder.events) >= 50
    assert size < store.recorder.at_once < POLICY.commit_size + 2 * size


# --- sessions


async def test_a_live_name_cannot_be_claimed(store: Store) -> None:
    await store.login("alice")
    with pytest.raises(UsernameTaken):
        await store.attach_session(Claim("alice", "another", None))


async def test_of_many_claims_to_a_name_one_wins(store: Store) -> None:
    claims = [store.attach_session(Claim("alice", f"c{number}", None)) for number in range(50)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(result, Session) for result in results) == 1
    assert sum(isinstance(result, UsernameTaken) for result in results) == 49


async def test_an_ended_session_frees_its_name_and_leaves_its_rooms(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    await store.end_session(alice, "c-alice")
    assert store.recorder.events[-1] == ("user-left", {"room": "tea", "username": "alice"})
    assert store.recorder.movements[-1] == Movement("tea", left=("alice",))
    effects = store.recorder.effects
    assert effects.index(store.recorder.movements[-1]) < effects.index(store.recorder.publications[-1])
    await store.login("alice")
    assert await store.list_rooms("alice") == ()


async def test_the_end_of_a_connection_that_was_replaced_changes_nothing(store: Store) -> None:
    alice = await store.login("alice")
    attachment = await store.resume(alice, None, "c-new")
    assert attachment.replaces == Holder("c-alice", attachment.holder.node)
    await store.end_session(alice, "c-alice")
    await store.suspend_session(alice, "c-alice")
    assert (await store.find_users("bob", "alice", 10)).users == ("alice",)


async def test_a_suspended_session_is_offline_and_keeps_its_rooms(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    await store.lose(alice)
    assert store.recorder.events[-1] == ("presence", {"room": "tea", "username": "alice", "online": False})
    assert store.recorder.publications[-1].offset is None
    (room,) = await store.list_rooms("bob")
    assert orjson.loads(room.members) == [{"username": "alice", "online": False}, {"username": "bob", "online": True}]
    assert (await store.find_users("bob", "", 10)).users == ("bob",)


async def test_a_suspended_name_is_reserved(store: Store) -> None:
    """Disconnecting a client does not give others its name: the client may come back to it first."""
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    began = time.monotonic()
    await store.lose(alice)
    left: float = POLICY.reserve_names
    for seconds in (0, POLICY.reserve_names - 20, 10):
        store.clock.advance(seconds)
        left -= seconds
        with pytest.raises(UsernameTaken) as caught:
            await store.attach_session(Claim("alice", "another", None))
        assert caught.value.retry_after is not None
        assert -0.01 < left - caught.value.retry_after < time.monotonic() - began + 0.01
    assert (await store.resume(alice, None)).rooms[0].room == "tea"


async def test_claiming_a_name_after_its_reservation_ends_the_suspended_session(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    offset = store.recorder.last_attachment.offset
    await store.lose(alice)
    store.clock.advance(POLICY.reserve_names + 0.1)
    claimed = await store.login("alice")
    assert claimed.sid != alice.sid
    assert ("user-left", {"room": "tea", "username": "alice"}) in store.recorder.events
    with pytest.raises(UsernameTaken):
        await store.resume(alice, offset)


async def test_a_session_expires_after_the_recovery_window(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    await store.lose(alice)
    store.clock.advance(POLICY.recovery_window - 1)
    assert await store.end_expired_sessions() == 0
    store.clock.advance(2)
    assert await store.end_expired_sessions() == 1
    assert store.recorder.events[-1] == ("user-left", {"room": "tea", "username": "alice"})
    with pytest.raises(UnknownUser):
        await store.create_room("bob", "two", ("alice",))


async def test_sessions_live_at_a_restart_are_suspended_from_then_on(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    offset = store.recorder.publications[-1].offset
    store.clock.advance(1000)
    await store.reopen()
    assert await store.end_expired_sessions() == 0
    attachment = await store.resume(alice, offset)
    assert attachment.recovered
    assert [room.room for room in attachment.rooms] == ["tea"]


async def test_a_session_that_cannot_be_resumed_does_not_outlast_a_restart(store: Store) -> None:
    """Its client was never told its pid: the name is free at once, and the rooms receive `user-left` soon."""
    bob = await store.login("bob")
    for name in ("bare", "gone"):
        await store.attach_session(Claim(name, f"c-{name}", None, resumable=False))
    await store.create_room("bob", "tea", ("bare", "gone"))
    with pytest.raises(UsernameTaken) as caught:
        await store.login("bare")
    assert caught.value.retry_after is None
    offset = store.recorder.publications[-1].offset
    await store.reopen()
    await store.login("bare")
    assert await store.end_expired_sessions() == 1
    attachment = await store.resume(bob, offset)
    left = [orjson.loads(missed.body)["username"] for missed in attachment.missed if missed.event == "user-left"]
    assert sorted(left) == ["bare", "gone"]
    assert [room.member_count for room in attachment.rooms] == [1]


async def test_a_session_that_cannot_be_resumed_ends_before_many_that_can(store: Store) -> None:
    """These were suspended before, but their recovery windows begin at the restart."""
    for number in range(EXPIRED_AT_ONCE + 1):
        await store.lose(await store.login(f"user{number}"))
    store.clock.advance(POLICY.recovery_window - 1)
    await store.attach_session(Claim("bare", "c-bare", None, resumable=False))
    store.clock.advance(2)
    await store.reopen()
    assert await store.end_expired_sessions() == 1
    assert (await store.find_users("user0", "bare", 1)).users == ()


async def test_every_recovery_window_begins_at_a_restart(store: Store) -> None:
    """A long stop costs nobody a session, whether it was live or suspended when the gateway stopped."""
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    offset = store.recorder.publications[-1].offset
    await store.lose(alice)
    store.clock.advance(POLICY.recovery_window * 10)
    await store.reopen()
    assert await store.end_expired_sessions() == 0
    assert (await store.resume(alice, offset)).recovered


# --- recovery


async def test_a_recovered_session_receives_what_it_missed_once_and_in_order(store: Store) -> None:
    bob = await store.login("alice", "bob")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("bob",))
    await store.append_message("alice", "tea", "1", None)
    await store.append_message("bob", "tea", "own", None)
    await store.lose(bob)
    await store.append_message("alice", "tea", "2", None)
    for connection in ("c-again", "c-and-again"):  # the same offset twice
        attachment = await store.resume(bob, offset, connection)
        assert attachment.recovered
        assert attachment.session == bob
        assert attachment.offset == offset
        missed = [(p.event, orjson.loads(p.body).get("content")) for p in attachment.missed]
        assert missed == [("room-joined", None), ("message", "1"), ("message", "2")]


async def test_events_from_before_a_member_joined_are_not_replayed(store: Store) -> None:
    bob = await store.login("alice", "carol", "bob")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("carol",))
    await store.append_message("alice", "tea", "early", None)
    await store.add_members("alice", "tea", ("bob",))
    attachment = await store.resume(bob, offset)
    assert [publication.event for publication in attachment.missed] == ["room-joined"]


async def test_a_trimmed_log_prevents_recovery(store: Store) -> None:
    bob = await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    offset = store.recorder.publications[-1].offset
    await store.lose(bob)
    for number in range(POLICY.history_size * 2):
        await store.append_message("alice", "tea", str(number), None)
    attachment = await store.resume(bob, offset)
    assert not attachment.recovered
    assert attachment.missed == ()
    assert attachment.session.sid == bob.sid
    assert attachment.session.pid != bob.pid
    assert [room.room for room in attachment.rooms] == ["tea"]


async def test_a_pid_works_until_its_successor_is_used(store: Store) -> None:
    """Where a resume gives a new pid, the one before works until the new one was used, and then no more."""
    bob = await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    first = await store.resume(bob, None, "c1")
    again = await store.resume(bob, None, "c2")
    assert [room.room for room in again.rooms] == ["tea"]
    assert len({bob.pid, first.session.pid, again.session.pid}) == 3
    await store.resume(again.session, again.offset, "c3")
    for old in (bob, first.session):
        with pytest.raises(UsernameTaken):
            await store.resume(old, None, "c4")


async def test_events_missed_in_a_room_left_since_prevent_recovery(store: Store) -> None:
    """A gap is never silent: neither in a room left since, nor in one left and joined again."""
    carol = await store.login("alice", "carol")
    await store.create_room("alice", "tea", ("carol",))
    offset = store.recorder.publications[-1].offset
    await store.append_message("alice", "tea", "unheard", None)
    await store.remove_member("carol", "tea")
    left = await store.resume(carol, offset)
    assert (left.recovered, left.rooms) == (False, ())
    store.clock.advance(POLICY.decline_window + 1)
    await store.add_members("alice", "tea", ("carol",))
    joined = await store.resume(left.session, offset)
    assert (joined.recovered, [room.room for room in joined.rooms]) == (False, ["tea"])


async def test_leaving_a_room_with_nothing_missed_does_not_prevent_recovery(store: Store) -> None:
    carol = await store.login("alice", "carol")
    await store.create_room("alice", "tea", ("carol",))
    offset = store.recorder.publications[-1].offset
    await store.remove_member("carol", "tea")
    await store.append_message("alice", "tea", "not for carol", None)
    attachment = await store.resume(carol, offset)
    assert (attachment.recovered, attachment.missed) == (True, ())


@pytest.mark.parametrize("offset", [None, "", "nonsense", "000000000000-1", "²", "-"])
async def test_an_offset_of_another_log_does_not_recover(store: Store, offset: str | None) -> None:
    bob = await store.login("bob")
    attachment = await store.resume(bob, offset)
    assert not attachment.recovered


async def test_an_offset_from_the_future_does_not_recover(store: Store) -> None:
    bob = await store.login("bob")
    name, _, position = store.recorder.last_attachment.offset.rpartition("-")
    attachment = await store.resume(bob, f"{name}-{int(position) + BEYOND}")
    assert not attachment.recovered


async def test_missing_more_than_can_be_replayed_prevents_recovery(store: Store) -> None:
    bob = await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    offset = store.recorder.publications[-1].offset
    for _ in range(11):
        await store.append_message("alice", "tea", "x" * (POLICY.replay_size // 10), None)
    assert not (await store.resume(bob, offset)).recovered


# --- rooms


async def test_creator_and_users_are_members_and_the_users_are_notified(store: Store) -> None:
    await store.login("carol", "bob", "alice")
    room = await store.create_room("alice", "tea", ("bob", "alice", "carol"))
    members = [{"username": name, "online": True} for name in ("alice", "bob", "carol")]
    assert (orjson.loads(room.members), room.member_count) == (members, 3)
    joined = [name for movement in store.recorder.movements for name in movement.joined]
    assert sorted(joined) == ["alice", "bob", "carol"]
    notified = [publication for publication in store.recorder.publications if publication.event == "room-joined"]
    assert [publication.recipients for publication in notified] == [("bob",), ("carol",)]
    assert all(publication.offset for publication in notified)


async def test_a_room_name_in_use_is_refused(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ())
    with pytest.raises(RoomExists):
        await store.create_room("bob", "tea", ())


async def test_an_unknown_user_is_named_and_nobody_is_added(store: Store) -> None:
    await store.login("alice", "bob")
    with pytest.raises(UnknownUser) as caught:
        await store.create_room("alice", "tea", ("bob", "zed", "yan"))
    assert caught.value.fields == {"users": ["zed", "yan"]}
    with pytest.raises(RoomNotFound):
        await store.append_message("alice", "tea", "hi", None)
    await store.create_room("alice", "tea", ())
    with pytest.raises(UnknownUser):
        await store.add_members("alice", "tea", ("bob", "zed"))
    assert (await store.list_members("alice", "tea", "", 10)).member_count == 1


async def test_adding_notifies_the_members_and_then_the_added(store: Store) -> None:
    await store.login("alice", "bob", "carol")
    await store.create_room("alice", "tea", ("bob",))
    store.recorder.effects.clear()
    added = await store.add_members("alice", "tea", ("carol", "bob", "alice"))
    assert (added.added, added.already) == (("carol",), ("bob", "alice"))
    first, second, movement = store.recorder.effects
    assert isinstance(first, Publication)
    assert isinstance(second, Publication)
    assert (first.event, first.author) == ("user-joined", "alice")
    assert orjson.loads(first.body) == {"room": "tea", "username": "carol", "by": "alice"}
    assert (second.event, second.recipients) == ("room-joined", ("carol",))
    assert movement == Movement("tea", joined=("carol",))
    assert orjson.loads(second.body)["member_count"] == 3


async def test_only_members_can_act_in_a_room(store: Store) -> None:
    await store.login("alice", "eve")
    await store.create_room("alice", "tea", ())
    for room in ("tea", "coffee"):
        for refused in (
            store.append_message("eve", room, "hi", None),
            store.add_members("eve", room, ("eve",)),
            store.remove_member("eve", room),
            store.list_members("eve", room, "", 10),
            store.read_history("eve", room, None, 10),
            store.publish_typing("eve", room),
        ):
            with pytest.raises(RoomNotFound):
                await refused


async def test_rooms_per_user_are_limited(store: Store) -> None:
    await store.login("alice", "bob")
    for number in range(POLICY.max_rooms):
        await store.create_room("alice", f"room{number}", ())
    with pytest.raises(LimitReached) as caught:
        await store.create_room("alice", "one-more", ())
    assert caught.value.fields == {"users": ["alice"]}
    with pytest.raises(LimitReached):
        await store.open_direct("alice", "bob")
    await store.remove_member("alice", "room0")
    await store.open_direct("alice", "bob")


async def test_invitations_are_counted_apart_from_own_rooms(store: Store) -> None:
    """A stranger who adds a user to the maximum of rooms does not use up the user's own."""
    await store.login("alice", "eve", "mallory")
    for number in range(POLICY.max_rooms - 1):
        await store.create_room("eve", f"eve{number}", ("alice",))
    await store.open_direct("eve", "alice")
    await store.create_room("mallory", "more", ("eve",))
    for refused in (
        store.add_members("mallory", "more", ("alice",)),
        store.create_room("mallory", "again", ("alice",)),
        store.open_direct("mallory", "alice"),
    ):
        with pytest.raises(LimitReached) as caught:
            await refused
        assert caught.value.fields == {"users": ["alice"]}
        assert "alice" in caught.value.message
    for number in range(POLICY.max_rooms):
        await store.create_room("alice", f"alice{number}", ())
    await store.remove_member("alice", "eve0")
    await store.add_members("mallory", "more", ("alice",))


async def test_members_per_room_are_limited(store: Store) -> None:
    names = [f"user{number}" for number in range(POLICY.max_members + 1)]
    await store.login(*names)
    with pytest.raises(LimitReached):
        await store.create_room(names[0], "tea", tuple(names[1:]))
    await store.create_room(names[0], "tea", tuple(names[1:-1]))
    with pytest.raises(LimitReached):
        await store.add_members(names[0], "tea", (names[-1],))


async def test_a_room_and_its_log_end_with_its_last_member(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ())
    await store.append_message("alice", "tea", "old", None)
    await store.remove_member("alice", "tea")
    with pytest.raises(RoomNotFound):
        await store.read_history("alice", "tea", None, 10)
    await store.create_room("bob", "tea", ())
    assert await contents(store, "bob", "tea") == []


async def test_positions_are_never_used_twice(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    before = store.recorder.publications[-1].offset
    await store.remove_member("alice", "tea")
    await store.remove_member("bob", "tea")
    await store.reopen()
    store.clock.advance(POLICY.reserve_names + 1)
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    after = store.recorder.publications[-1].offset
    assert before is not None
    assert after is not None
    assert int(after.rpartition("-")[2]) > int(before.rpartition("-")[2])


async def test_above_the_presence_limit_nobody_is_told_who_comes_and_goes(store: Store) -> None:
    names = [f"user{number}" for number in range(POLICY.presence_limit + 1)]
    last = await store.login(*names)
    await store.create_room(names[0], "tea", tuple(names[1:-1]))
    store.recorder.effects.clear()
    await store.add_members(names[0], "tea", (names[-1],))
    assert [publication.event for publication in store.recorder.publications] == ["room-joined"]
    await store.lose(last)
    assert len(store.recorder.publications) == 1
    await store.remove_member(names[0], "tea")
    assert store.recorder.effects[-1] == Movement("tea", left=(names[0],))


async def test_members_are_paged_in_order_of_name(store: Store) -> None:
    await store.login("a", "b", "c", "d")
    await store.create_room("b", "tea", ("d", "a", "c"))
    page = await store.list_members("b", "tea", "", 3)
    assert ([member.username for member in page.members], page.member_count, page.more) == (["a", "b", "c"], 4, True)
    page = await store.list_members("b", "tea", "c", 3)
    assert ([member.username for member in page.members], page.more) == (["d"], False)


async def test_users_are_found_by_prefix(store: Store) -> None:
    await store.login("al", "alice", "albert", "bob")
    page = await store.find_users("bob", "al", 2)
    assert (page.users, page.more) == (("al", "albert"), True)
    assert (await store.find_users("bob", "ali", 2)).users == ("alice",)
    assert (await store.find_users("bob", "%", 2)).users == ()


# --- the log


async def test_messages_are_published_in_the_order_of_their_positions(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.create_room("bob", "too", ("alice",))
    pairs = [("alice", "tea"), ("bob", "too")]
    sends = [store.append_message(*pair, str(n), None) for n in range(300) for pair in pairs]
    receipts = await asyncio.gather(*sends)
    assert not any(receipt.duplicate for receipt in receipts)
    messages = [publication for publication in store.recorder.publications if publication.event == "message"]
    assert len(messages) == 600
    positions = [int((publication.offset or "").rpartition("-")[2]) for publication in messages]
    assert positions == sorted(positions)
    for room in ("tea", "too"):
        received = [int(orjson.loads(p.body)["content"]) for p in messages if p.room == room]
        assert received == list(range(300))


async def test_messages_that_wait_together_have_their_own_outcomes(store: Store) -> None:
    """Some are new, some were sent before, and the authors of some are members of no such room."""
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.create_room("bob", "own", ())
    sends = [
        ("alice", "tea", "1", None),
        ("alice", "own", "2", "a"),
        ("alice", "tea", "3", "a"),
        ("bob", "tea", "4", "a"),
        ("alice", "tea", "5", "a"),
        ("bob", "own", "6", None),
        ("bob", "none", "7", None),
        ("alice", "tea", "8", None),
    ]
    outcomes = await asyncio.gather(*(store.append_message(*each) for each in sends), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, Receipt)] == [RoomNotFound, RoomNotFound]
    receipts = {each[2]: outcome for each, outcome in zip(sends, outcomes, strict=True) if isinstance(outcome, Receipt)}
    assert [content for content, receipt in receipts.items() if receipt.duplicate] == ["5"]
    assert (receipts["5"].id, receipts["5"].ts) == (receipts["3"].id, receipts["3"].ts)
    bodies = [orjson.loads(p.body) for p in store.recorder.publications if p.event == "message"]
    for author, sent in (("alice", ["tea 1", "tea 3", "tea 8"]), ("bob", ["tea 4", "own 6"])):
        assert [f"{body['room']} {body['content']}" for body in bodies if body["from"] == author] == sent
    assert all(receipts[body["content"]].id == body["id"] for body in bodies)


async def test_a_client_reads_what_it_has_just_sent(store: Store) -> None:
    """It does not wait for the ack, and others keep the store busy."""
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    missing = []

    async def keep_busy() -> None:
        while True:
            await store.list_rooms("bob")

    busy = [asyncio.create_task(keep_busy()) for _ in range(5)]
    for number in range(100):
        sending = asyncio.create_task(store.append_message("alice", "tea", str(number), None))
        reading = asyncio.create_task(store.read_history("alice", "tea", None, 1))
        await sending
        if orjson.loads((await reading).bodies[-1])["content"] != str(number):
            missing.append(number)
        for _ in range(number % 5):
            await asyncio.sleep(0)  # the next one comes at another moment
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    assert missing == []


async def test_more_text_than_goes_together_is_appended_in_order(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    contents = [f"{number}{'x' * 2000}" for number in range(150)]
    await asyncio.gather(*(store.append_message("alice", "tea", content, None) for content in contents))
    bodies = [orjson.loads(p.body) for p in store.recorder.publications if p.event == "message"]
    assert [body["content"] for body in bodies] == contents


async def test_an_effect_is_published_before_its_call_returns(store: Store) -> None:
    await store.login("alice")
    await store.create_room("alice", "tea", ())
    for number in range(50):
        await store.append_message("alice", "tea", str(number), None)
        assert orjson.loads(store.recorder.publications[-1].body)["content"] == str(number)


async def test_an_id_is_appended_once_per_user_and_room(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.create_room("alice", "too", ())
    first = await store.append_message("alice", "tea", "one", "id1")
    store.clock.advance(5)
    again = await store.append_message("alice", "tea", "another text", "id1")
    assert (again.id, again.ts, again.duplicate) == (first.id, first.ts, True)
    assert not (await store.append_message("bob", "tea", "two", "id1")).duplicate
    assert not (await store.append_message("alice", "too", "three", "id1")).duplicate
    assert await contents(store, "alice", "tea") == ["one", "two"]


async def test_an_id_is_remembered_longer_than_its_message(store: Store) -> None:
    """A client that comes back at the end of its window may retry what a busy room has trimmed already."""
    alice = await store.login("alice")
    await store.login("bob")
    await store.create_room("alice", "tea", ("bob",))
    first = await store.append_message("alice", "tea", "one", "id1")
    await store.lose(alice)
    store.clock.advance(POLICY.recovery_window - 1)
    for number in range(3 * POLICY.history_size):
        await store.append_message("bob", "tea", str(number), f"id{number}")
    assert "one" not in await contents(store, "bob", "tea")
    await store.reopen()
    await store.resume(alice, None)
    again = await store.append_message("alice", "tea", "one", "id1")
    assert (again.id, again.ts, again.duplicate) == (first.id, first.ts, True)
    store.clock.advance(10 * POLICY.recovery_window)
    for number in range(3 * POLICY.history_size):
        await store.append_message("alice", "tea", str(number), None)
    assert not (await store.append_message("alice", "tea", "one", "id1")).duplicate


async def test_an_id_belongs_to_the_session_that_used_it(store: Store) -> None:
    """A later holder of the name who joins the room may use the same id, and the message is delivered."""
    dave = await store.login("alice", "dave")
    await store.create_room("alice", "tea", ("dave",))
    await store.append_message("dave", "tea", "one", "1")
    await store.end_session(dave, "c-dave")
    await store.login("dave")
    await store.add_members("alice", "tea", ("dave",))
    assert not (await store.append_message("dave", "tea", "another", "1")).duplicate
    assert await contents(store, "alice", "tea") == ["one", "another"]


async def test_history_is_paged_from_the_newest(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    for number in range(5):
        await store.append_message("alice", "tea", str(number), f"id{number}")
    page = await store.read_history("bob", "tea", None, 2)
    messages = [orjson.loads(message) for message in page.bodies]
    assert [message["content"] for message in messages] == ["3", "4"]
    assert page.more
    assert set(messages[0]) == {"id", "room", "from", "content", "ts", "offset"}
    for before in (messages[0]["offset"], messages[0]["id"]):
        assert await contents(store, "bob", "tea", before=before) == ["0", "1", "2"]


async def test_before_must_name_one_message_of_the_room(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.append_message("alice", "tea", "a", "same")
    await store.append_message("bob", "tea", "b", "same")
    for before in ("none", "same"):
        with pytest.raises(InvalidPayload) as caught:
            await store.read_history("alice", "tea", before, 10)
        assert caught.value.fields is not None
        assert "before" in caught.value.fields


async def test_history_keeps_history_size_messages(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    for number in range(POLICY.history_size + 5):
        await store.append_message("alice", "tea", str(number), None)
        expected = [str(n) for n in range(max(0, number + 1 - POLICY.history_size), number + 1)]
        assert await contents(store, "bob", "tea") == expected


async def test_typing_is_published_to_others_and_not_kept(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.publish_typing("alice", "tea")
    typing = store.recorder.publications[-1]
    assert (typing.event, typing.offset, typing.author, typing.recipients) == ("typing", None, "alice", None)
    assert await contents(store, "alice", "tea") == []


async def test_acked_messages_are_there_after_a_restart(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    await store.append_message("alice", "tea", "kept", None)
    await store.reopen()
    await store.resume(alice, None)
    assert await contents(store, "alice", "tea") == ["kept"]


async def test_a_refused_call_publishes_nothing(store: Store) -> None:
    await store.login("alice")
    store.recorder.effects.clear()
    with pytest.raises(GatewayError):
        await store.create_room("alice", "tea", ("nobody",))
    assert store.recorder.effects == []


async def test_closing_finishes_the_calls_under_way(store: Store) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    calls = [store.append_message("alice", "tea", str(number), None) for number in range(12)]
    running = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    assert await store.close(5)
    assert all(call.done() and call.exception() is None for call in running)
    await store.reopen()
    await store.resume(alice, None)
    assert await contents(store, "alice", "tea") == [str(number) for number in range(12)]
