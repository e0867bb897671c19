"""What a returning user receives, on every store: all that it missed, once and in order, or nothing."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import orjson
import pytest

from engines.conftest import POLICY, Store
from gateway.engines.effects import Attachment, Publication, Session
from gateway.errors import InvalidPayload, UsernameTaken


def summary(attachment: Attachment) -> list[tuple[str, str]]:
    """Event and content, or room, of what was missed."""
    bodies = [(missed.event, orjson.loads(missed.body)) for missed in attachment.missed]
    return [(event, body.get("content", body["room"])) for event, body in bodies]


async def talk(store: Store, actor: str, room: str, number: int) -> None:
    for count in range(number):
        await store.append_message(actor, room, str(count), None)


# --- trimming matters to those who could have received what was trimmed


async def test_others_who_come_and_go_do_not_prevent_recovery(store: Store) -> None:
    """Members of a room above the presence limit are not told who comes and goes: they have missed nothing."""
    names = [f"user{number}" for number in range(POLICY.presence_limit)]
    quiet = await store.login(*names, "mover", "quiet")
    await store.create_room(names[0], "tea", (*names[1:], "quiet"))
    offset = store.recorder.publications[-1].offset
    await store.lose(quiet)
    await store.remove_member(names[1], "tea")
    for _ in range(4 * POLICY.history_size):
        await store.add_members(names[0], "tea", ("mover",))
        await store.remove_member("mover", "tea")
        store.clock.advance(POLICY.decline_window + 1)
    attachment = await store.resume(quiet, offset)
    assert (attachment.recovered, attachment.missed) == (True, ())


async def test_trimming_ones_own_messages_does_not_prevent_recovery(store: Store) -> None:
    """Authors do not receive their own messages: trimming those is no gap for them."""
    alice = await store.login("bob", "alice")
    await store.create_room("bob", "tea", ("alice",))
    offset = store.recorder.publications[-1].offset
    await talk(store, "alice", "tea", 5 * POLICY.history_size)
    attachment = await store.resume(alice, offset)
    assert (attachment.recovered, attachment.missed) == (True, ())


async def test_events_trimmed_before_one_joined_do_not_prevent_recovery(store: Store) -> None:
    bob = await store.login("alice", "carol", "bob")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("carol",))
    await talk(store, "alice", "tea", 5 * POLICY.history_size)
    await store.add_members("carol", "tea", ("bob",))
    await store.append_message("alice", "tea", "for bob", None)
    attachment = await store.resume(bob, offset)
    assert (attachment.recovered, summary(attachment)) == (True, [("room-joined", "tea"), ("message", "for bob")])


async def test_a_trimmed_message_of_another_author_prevents_recovery(store: Store) -> None:
    for before, after in ((0, 100), (3, 100), (100, 3), (100, 100)):
        alice = await store.login("bob", "alice")
        room = f"{before} {after}"
        await store.create_room("bob", room, ("alice",))
        offset = store.recorder.publications[-1].offset
        await talk(store, "alice", room, before)
        await store.append_message("bob", room, "from bob", None)
        seen = store.recorder.publications[-1].offset
        await talk(store, "alice", room, after)
        first = await store.resume(alice, offset)
        if after > POLICY.history_size:
            assert not first.recovered
        else:
            assert (first.recovered, summary(first)) == (True, [("message", "from bob")])
        again = await store.resume(first.session, seen)
        assert (again.recovered, summary(again)) == (True, [])
        for session, connection in ((await session_of(store, "bob"), "c-bob"), (again.session, "c-again")):
            await store.end_session(session, connection)


async def session_of(store: Store, username: str) -> Session:
    attachments = [effect for effect in store.recorder.effects if isinstance(effect, Attachment)]
    return [attachment.session for attachment in attachments if attachment.session.username == username][-1]


async def test_notices_are_trimmed_apart_from_messages(store: Store) -> None:
    """Notices do not push messages out; but a member who missed trimmed notices does not recover."""
    quiet = await store.login("alice", "mover", "quiet")
    await store.create_room("alice", "tea", ("quiet",))
    await talk(store, "alice", "tea", 3)
    offset = store.recorder.publications[-1].offset
    for _ in range(4 * POLICY.history_size):
        await store.add_members("alice", "tea", ("mover",))
        await store.remove_member("mover", "tea")
        store.clock.advance(POLICY.decline_window + 1)
    assert len((await store.read_history("quiet", "tea", None, 100)).bodies) == 3
    assert not (await store.resume(quiet, offset)).recovered


async def test_ones_own_messages_do_not_hide_trimmed_notices(store: Store) -> None:
    """Both were trimmed, in either order: the author of the messages has missed the notices all the same."""
    for first, last in (("notices", "messages"), ("messages", "notices")):
        alice = await store.login("bob", "mover", "alice")
        await store.create_room("bob", first, ("alice",))
        offset = store.recorder.publications[-1].offset
        for what in (first, last):
            for _ in range(3 * POLICY.history_size):
                if what == "messages":
                    await store.append_message("alice", first, "x", None)
                else:
                    await store.add_members("bob", first, ("mover",))
                    await store.remove_member("mover", first)
                    store.clock.advance(POLICY.decline_window + 1)
        seen = store.recorder.publications[-1].offset
        attachment = await store.resume(alice, offset)
        assert not attachment.recovered
        again = await store.resume(attachment.session, seen)
        assert (again.recovered, again.missed) == (True, ())
        for username in ("bob", "mover"):
            await store.end_session(await session_of(store, username), f"c-{username}")
        await store.end_session(again.session, "c-again")


async def test_the_room_joined_of_a_member_is_not_trimmed(store: Store) -> None:
    """One's own messages may push out all else; what a member has not received is still there."""
    bob = await store.login("alice", "bob")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("bob",))
    await talk(store, "bob", "tea", 5 * POLICY.history_size)
    attachment = await store.resume(bob, offset)
    assert (attachment.recovered, summary(attachment)) == (True, [("room-joined", "tea")])


async def test_a_missed_room_joined_of_a_room_left_since_prevents_recovery(store: Store) -> None:
    for last in (False, True):
        bob = await store.login("alice", "bob")
        offset = store.recorder.last_attachment.offset
        await store.create_room("alice", "tea", ("bob",))
        if last:
            await store.remove_member("alice", "tea")
        await store.remove_member("bob", "tea")
        attachment = await store.resume(bob, offset)
        assert not attachment.recovered
        await store.end_session(attachment.session, "c-again")
        await store.end_session(await session_of(store, "alice"), "c-alice")


async def test_leaving_a_room_of_ones_own_does_not_prevent_recovery(store: Store) -> None:
    bob = await store.login("alice", "bob")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "other", ())
    await talk(store, "alice", "other", 3)
    await store.create_room("bob", "tea", ("alice",))
    await talk(store, "bob", "tea", 3)
    await store.remove_member("bob", "tea")
    attachment = await store.resume(bob, offset)
    assert (attachment.recovered, attachment.missed) == (True, ())


# --- what an identity may replay begins with its session


async def test_leaving_a_room_of_ones_own_keeps_the_invitation_to_another(store: Store) -> None:
    """A user's own room begins for it at the newest position, which may be that of an invitation."""
    bob = await store.login("alice", "bob")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("bob",))
    await store.create_room("bob", "own", ())
    await store.remove_member("bob", "own")
    attachment = await store.resume(bob, offset)
    assert attachment.recovered
    assert summary(attachment) == [("room-joined", "tea")]


async def test_a_new_holder_of_a_name_receives_nothing_of_the_former_holder(store: Store) -> None:
    """Neither with an offset of the former holder's time, nor in a room in which both were."""
    former = await store.login("alice", "dave")
    offset = store.recorder.last_attachment.offset
    await store.create_room("alice", "tea", ("dave",))
    await store.append_message("alice", "tea", "for the former", None)
    await store.end_session(former, "c-dave")
    dave = await store.login("dave")
    assert summary(await store.resume(dave, offset, "c1")) == []
    await store.add_members("alice", "tea", ("dave",))
    await store.append_message("alice", "tea", "for the new", None)
    attachment = await store.resume(dave, offset, "c2")
    assert summary(attachment) == [("room-joined", "tea"), ("message", "for the new")]


async def test_a_room_left_and_joined_again_is_replayed_from_the_second_join(store: Store) -> None:
    carol = await store.login("alice", "carol")
    await store.create_room("alice", "tea", ("carol",))
    await store.append_message("alice", "tea", "received", None)
    offset = store.recorder.publications[-1].offset
    await store.remove_member("carol", "tea")
    await store.append_message("alice", "tea", "not for carol", None)
    store.clock.advance(POLICY.decline_window + 1)
    await store.add_members("alice", "tea", ("carol",))
    await store.append_message("alice", "tea", "for carol", None)
    attachment = await store.resume(carol, offset)
    assert summary(attachment) == [("room-joined", "tea"), ("message", "for carol")]


# --- long replays


async def test_a_long_replay_over_many_rooms_is_complete_and_in_order(store: Store) -> None:
    """Also where others write, join and leave while it is read."""
    bob = await store.login("alice", "carol", "bob")
    rooms = [f"room{number}" for number in range(POLICY.max_rooms)]
    for room in rooms:
        await store.create_room("alice", room, ("bob", "carol"))
    offset = store.recorder.publications[-1].offset
    dice = random.Random(7)  # noqa: S311 - the same every time
    for _ in range(30):
        await store.append_message(dice.choice(["alice", "carol", "bob"]), dice.choice(rooms), "x", None)
    await store.lose(bob)
    resuming = asyncio.ensure_future(store.resume(bob, offset))
    for number in range(12):
        await store.append_message("alice", dice.choice(rooms), str(number), None)
    attachment = await resuming
    assert attachment.recovered
    index = store.recorder.effects.index(attachment)
    expected = [
        effect.offset
        for effect in store.recorder.effects[:index]
        if isinstance(effect, Publication) and effect.event == "message" and effect.author != "bob"
    ]
    assert [missed.offset for missed in attachment.missed] == expected


async def test_a_replay_read_while_others_write_has_no_gap(store: Store) -> None:
    """In random conversations, a recovered member has received exactly what one did who was never away."""
    bob = await store.login("alice", "carol", "bob")
    rooms = ["one", "two"]
    for room in rooms:
        await store.create_room("alice", room, ("bob", "carol"))
    dice = random.Random(3)  # noqa: S311 - the same every time
    outcomes: dict[bool, int] = defaultdict(int)
    session, offset = bob, store.recorder.publications[-1].offset
    for round_ in range(40):
        start = len(store.recorder.effects)
        for _ in range(dice.randrange(14)):
            await store.append_message(dice.choice(["alice", "carol", "bob"]), dice.choice(rooms), "x", None)
        coming = asyncio.ensure_future(store.resume(session, offset, f"c{round_}"))
        for _ in range(dice.randrange(8)):
            await store.append_message("carol", dice.choice(rooms), "y", None)
        attachment = await coming
        index = store.recorder.effects.index(attachment)
        outcomes[attachment.recovered] += 1
        if attachment.recovered:
            expected = [
                effect.offset
                for effect in store.recorder.effects[start:index]
                if isinstance(effect, Publication) and effect.offset and effect.author != "bob"
            ]
            assert [missed.offset for missed in attachment.missed] == expected
        session = attachment.session
        later = [
            effect for effect in store.recorder.effects[index:] if isinstance(effect, Publication) and effect.offset
        ]
        offset = later[-1].offset if later else store.recorder.effects[index].offset  # type: ignore[union-attr]
        if not later and attachment.missed:
            offset = attachment.missed[-1].offset
    assert outcomes[True] > 20


async def test_of_two_who_leave_together_the_second_has_missed_the_first(store: Store) -> None:
    """What happens in a room before one leaves it cannot be received any more after that."""
    alice, bob = await store.login("carol", "alice"), await store.login("bob")
    await store.create_room("carol", "tea", ("alice", "bob"))
    offset = store.recorder.publications[-1].offset
    await asyncio.gather(*(store.remove_member(name, "tea") for name in ("alice", "bob")))
    (first, _) = [body["username"] for event, body in store.recorder.events if event == "user-left"]
    for session in (alice, bob):
        await store.lose(session)
        assert (await store.resume(session, offset)).recovered == (session.username == first)


async def test_leaving_a_room_while_its_replay_is_read_prevents_recovery(store: Store) -> None:
    """What was read of a room that was left meanwhile is not replayed as if the membership had continued."""
    bob = await store.login("alice", "bob")
    for room in ("one", "two"):
        await store.create_room("alice", room, ("bob",))
    offset = store.recorder.publications[-1].offset
    for _ in range(8):
        for room in ("one", "two"):
            await store.append_message("alice", room, "x", None)
    coming = asyncio.ensure_future(store.resume(bob, offset))
    await store.list_rooms("bob")
    await store.remove_member("bob", "one")
    attachment = await coming
    left = [room.room for room in attachment.rooms] == ["two"]
    assert attachment.recovered != left


# --- the system clock


@pytest.mark.parametrize("step", [86_400, -86_400])
async def test_setting_the_clock_changes_no_recovery_window(store: Store, step: float) -> None:
    alice = await store.login("bob", "alice")
    await store.create_room("alice", "tea", ("bob",))
    await store.lose(alice)
    store.clock.set(step)
    assert await store.end_expired_sessions() == 0
    store.clock.advance(POLICY.recovery_window - 1)
    store.clock.set(-step / 2)
    assert await store.end_expired_sessions() == 0
    store.clock.advance(2)
    assert await store.end_expired_sessions() == 1


@pytest.mark.parametrize("step", [86_400, -86_400])
async def test_setting_the_clock_while_the_store_is_closed_changes_no_recovery_window(
    store: Store, step: float
) -> None:
    alice = await store.login("alice")
    await store.lose(alice)
    store.clock.advance(POLICY.recovery_window - 1)
    store.clock.set(step)
    store.clock.boot()
    await store.reopen()
    store.clock.advance(POLICY.recovery_window - 1)
    assert await store.end_expired_sessions() == 0
    store.clock.advance(2)
    assert await store.end_expired_sessions() == 1


@pytest.mark.parametrize("step", [86_400, -86_400])
async def test_setting_the_clock_forgets_no_id(store: Store, step: float) -> None:
    await store.login("alice")
    await store.create_room("alice", "tea", ())
    await store.append_message("alice", "tea", "one", "id1")
    await talk(store, "alice", "tea", 3 * POLICY.history_size)
    store.clock.set(step)
    await talk(store, "alice", "tea", 3 * POLICY.history_size)
    assert (await store.append_message("alice", "tea", "one", "id1")).duplicate


async def test_time_never_runs_backwards_in_a_room(store: Store) -> None:
    alice, bob = await store.login("alice"), await store.login("bob")
    await store.create_room("alice", "tea", ("bob",))
    times = [(await store.append_message("alice", "tea", "x", None)).ts]
    for step in (-5, -86_400, 10):
        store.clock.set(step)
        times.append((await store.append_message("bob", "tea", "x", f"id{step}")).ts)
        if step == -86_400:
            await store.reopen()
            await store.resume(alice, None)
            await store.resume(bob, None, "c-bob")
        times.append((await store.append_message("alice", "tea", "x", None)).ts)
    assert times == sorted(times)
    history = await store.read_history("alice", "tea", None, 100)
    stored = [orjson.loads(message)["ts"] for message in history.bodies]
    assert stored == sorted(stored)


# --- offsets


async def test_an_event_has_one_offset_in_every_run(store: Store) -> None:
    alice = await store.login("alice")
    await store.create_room("alice", "tea", ())
    offsets = []
    for number in range(4):
        await store.append_message("alice", "tea", str(number), None)
        offsets.append(store.recorder.publications[-1].offset)
        await store.reopen()
        alice = (await store.resume(alice, offsets[-1])).session
        history = await store.read_history("alice", "tea", None, 100)
        assert [orjson.loads(message)["offset"] for message in history.bodies] == offsets
    for number, offset in enumerate(offsets):
        history = await store.read_history("alice", "tea", offset, 100)
        assert len(history.bodies) == number
    name, _, position = (offsets[0] or "").rpartition("-")
    with pytest.raises(InvalidPayload):  # the first run did not get as far
        await store.read_history("alice", "tea", f"{name}-{int(position) + 100}", 100)


async def test_many_restarts_do_not_prevent_recovery(store: Store) -> None:
    """A client that is away while the gateway starts again and again comes back to what it missed."""
    bob = await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    alice = await session_of(store, "alice")
    offset = store.recorder.publications[-1].offset
    for number in range(12):
        await store.reopen()
        if number % 3 == 0:
            await store.resume(alice, None, f"c{number}")
            alice = await session_of(store, "alice")
            await store.append_message("alice", "tea", str(number), None)
    attachment = await store.resume(bob, offset)
    assert attachment.recovered
    assert summary(attachment) == [("message", str(number)) for number in (0, 3, 6, 9)]


async def test_only_ids_that_exist_in_the_room_are_found(store: Store) -> None:
    """`before` takes the id that the gateway gave a message; nobody can make one up, or one of another room."""
    await store.login("alice")
    for room in ("tea", "other"):
        await store.create_room("alice", room, ())
    own = [(await store.append_message("alice", "tea", str(number), None)).id for number in range(3)]
    assert len((await store.read_history("alice", "tea", own[2], 10)).bodies) == 2
    made_up = own[2][::-1].partition(".")[2][::-1].swapcase() + "." + own[2].rpartition(".")[2]
    for room, before in (("other", own[2]), ("tea", made_up), ("tea", own[2] + "0"), ("tea", "x.0"), ("tea", ".")):
        with pytest.raises(InvalidPayload):
            await store.read_history("alice", room, before, 10)
    await store.append_message("alice", "tea", "the same id", own[1])
    with pytest.raises(InvalidPayload):
        await store.read_history("alice", "tea", own[1], 10)


async def test_history_is_bounded_in_bytes_too(store: Store) -> None:
    """The newest message is there however large; older ones as long as all of them fit."""
    await store.login("alice")
    await store.create_room("alice", "tea", ())
    sizes = [1000, 20_000, 20_000, 20_000, 500, 70_000, 10, 10]
    kept = []
    for number, size in enumerate(sizes):
        await store.append_message("alice", "tea", f"{number}{'x' * size}", None)
        history = await store.read_history("alice", "tea", None, 100)
        kept.append([int(orjson.loads(message)["content"].rstrip("x")) for message in history.bodies])
        assert not history.more
    assert kept == [[0], [0, 1], [0, 1, 2], [2, 3], [2, 3, 4], [5], [6], [6, 7]]


async def test_a_page_of_large_messages_ends_early_with_more(store: Store) -> None:
    await store.login("alice")
    await store.create_room("alice", "tea", ())
    for number in range(3):
        await store.append_message("alice", "tea", f"{number}{'x' * 16_000}", None)
    pages, before = [], None
    while True:
        history = await store.read_history("alice", "tea", before, 100)
        messages = [orjson.loads(message) for message in history.bodies]
        pages.append([message["content"][0] for message in messages])
        if not history.more:
            break
        before = messages[0]["offset"]
    assert [content for page in reversed(pages) for content in page] == ["0", "1", "2"]


async def test_a_suspended_user_is_not_found_until_resumed(store: Store) -> None:
    alice = await store.login("al", "alice", "alz", "am")
    await store.lose(await session_of(store, "alice"))
    assert (await store.find_users("am", "al", 10)).users == ("al", "alz")
    with pytest.raises(UsernameTaken):
        await store.login("al")
    await store.resume(await session_of(store, "alice"), None)
    assert (await store.find_users("am", "al", 10)).users == ("al", "alice", "alz")
    assert alice.username == "am"


async def test_a_session_in_which_nothing_happened_recovers_after_restarts(store: Store) -> None:
    """Its only offset is that of its welcome, in a run that wrote nothing else."""
    bob = await store.login("bob")
    offset = store.recorder.last_attachment.offset
    for _ in range(3):
        await store.reopen()
        attachment = await store.resume(bob, offset)
        assert (attachment.recovered, attachment.missed) == (True, ())
