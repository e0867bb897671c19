"""A user who leaves a room is not added to it again, on every store."""

from __future__ import annotations

import pytest

from engines.conftest import POLICY, Store
from gateway.engines.sqlite.database import open_database
from gateway.engines.sqlite.departures import FORGOTTEN_AT_ONCE, MAX_DEPARTURES, DepartureTable
from gateway.errors import RoomNotFound, UnknownUser

pytestmark = pytest.mark.fast


async def test_a_user_who_left_is_not_added_again_within_the_decline_window(store: Store) -> None:
    await store.login("alice", "bob", "carol")
    await store.create_room("alice", "tea", ("bob",))
    await store.remove_member("bob", "tea")
    store.recorder.effects.clear()
    for _ in range(2):
        result = await store.add_members("alice", "tea", ("bob", "alice"))
        assert (result.added, result.already, result.declined) == ((), ("alice",), ("bob",))
    assert store.recorder.effects == []
    store.clock.advance(POLICY.decline_window - 1)
    result = await store.add_members("alice", "tea", ("carol", "bob"))
    assert (result.added, result.declined) == (("carol",), ("bob",))
    store.clock.advance(2)
    assert (await store.add_members("carol", "tea", ("bob",))).added == ("bob",)


async def test_departures_survive_a_restart(store: Store) -> None:
    sessions = [await store.login(name) for name in ("alice", "bob")]
    await store.create_room("alice", "tea", ("bob",))
    await store.remove_member("bob", "tea")
    await store.reopen()
    for number, session in enumerate(sessions):
        await store.resume(session, None, f"c{number}")
    assert (await store.add_members("alice", "tea", ("bob",))).declined == ("bob",)


async def test_a_room_of_the_same_name_is_another_room(store: Store) -> None:
    await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.remove_member("bob", "tea")
    await store.remove_member("alice", "tea")
    room = await store.create_room("alice", "tea", ("bob",))
    assert room.member_count == 2


async def test_a_later_holder_of_a_name_has_no_departures(store: Store) -> None:
    bob = await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.remove_member("bob", "tea")
    await store.end_session(bob, "c-bob")
    with pytest.raises(UnknownUser):
        await store.add_members("alice", "tea", ("bob",))
    await store.login("bob")
    assert (await store.add_members("alice", "tea", ("bob",))).added == ("bob",)


async def test_a_suspended_member_has_not_left(store: Store) -> None:
    bob = await store.login("alice", "bob")
    await store.create_room("alice", "tea", ("bob",))
    await store.lose(bob)
    assert (await store.add_members("alice", "tea", ("bob",))).already == ("bob",)


async def test_a_user_who_left_a_direct_room_is_not_added_to_it_again(store: Store) -> None:
    """Not by opening it, and not by ending it first: only when the user opens it, or after an hour."""
    await store.login("alice", "bob")
    room = (await store.open_direct("alice", "bob")).room.room
    await store.remove_member("bob", room)
    store.recorder.effects.clear()
    opened = await store.open_direct("alice", "bob")
    assert (opened.declined, opened.room.room, opened.room.member_count) == (("bob",), room, 1)
    assert store.recorder.effects == []
    await store.remove_member("alice", room)
    opened = await store.open_direct("alice", "bob")
    assert (opened.declined, opened.room.member_count) == (("bob",), 1)
    assert await store.list_rooms("bob") == ()
    with pytest.raises(RoomNotFound):
        await store.append_message("bob", opened.room.room, "not in it", None)
    again = await store.open_direct("bob", "alice")
    assert (again.declined, again.room.room, again.room.member_count) == ((), opened.room.room, 2)
    await store.remove_member("bob", again.room.room)
    store.clock.advance(POLICY.decline_window + 1)
    opened = await store.open_direct("alice", "bob")
    assert (opened.declined, opened.room.member_count) == ((), 2)


async def test_departures_are_bounded_and_pruned() -> None:
    """The newest of each user are kept, and old ones are pruned in slices. A clock set back restarts the window."""
    now = 10_000_000
    departures = DepartureTable(connection := open_database(":memory:"), lambda: int(now), window=POLICY.decline_window)

    def count() -> int:
        return int(connection.execute("SELECT count(*) FROM departures").fetchone()[0])

    for number in range(MAX_DEPARTURES + 50):
        now += 1
        departures.note(str(number), "alice")
    departures.note("x", "bob")
    assert count() == MAX_DEPARTURES + 1
    assert await departures.among("49", ("alice",)) == set()
    assert await departures.among("50", ("alice", "bob")) == {"alice"}
    now += POLICY.decline_window * 1000
    slices = 1
    while departures.prune():
        slices += 1
    assert (count(), slices) == (0, MAX_DEPARTURES // FORGOTTEN_AT_ONCE + 1)
    departures.note("tea", "alice")
    now -= 2 * POLICY.decline_window * 1000
    departures.open()
    now += POLICY.decline_window * 1000 - 1
    assert await departures.among("tea", ("alice",)) == {"alice"}
    now += 1
    assert await departures.among("tea", ("alice",)) == set()
    for number in range(3 * FORGOTTEN_AT_ONCE):
        departures.note("crowd", f"u{number}")
    departures.forget_place("crowd")
    assert count() == 1 + 2 * FORGOTTEN_AT_ONCE
