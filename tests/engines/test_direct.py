"""Direct rooms, on every store."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from engines.conftest import Store
from gateway.engines.effects import Movement
from gateway.errors import Forbidden, RoomNotFound, UnknownUser

pytestmark = pytest.mark.fast


async def contents(store: Store, actor: str, room: str) -> list[str]:
    page = await store.read_history(actor, room, None, 100)
    return [orjson.loads(message)["content"] for message in page.bodies]


async def test_two_users_share_one_direct_room(store: Store) -> None:
    await store.login("alice", "bob")
    first = (await store.open_direct("alice", "bob")).room
    assert (first.kind, first.history, first.member_count, first.user) == ("direct", "all", 2, "bob")
    ((event, fields),) = store.recorder.events
    assert (event, fields["room"], fields["kind"], fields["user"], fields["by"]) == (
        "room-joined",
        first.room,
        "direct",
        "alice",
        "alice",
    )
    assert store.recorder.publications[-1].recipients == ("bob",)
    store.recorder.effects.clear()
    for actor, user in (("bob", "alice"), ("alice", "bob"), ("bob", "alice")):
        again = (await store.open_direct(actor, user)).room
        assert (again.room, again.user, again.members) == (first.room, user, first.members)
    assert store.recorder.effects == []
    for name, peer in (("alice", "bob"), ("bob", "alice")):
        (listed,) = await store.list_rooms(name)
        assert (listed.room, listed.kind, listed.user) == (first.room, "direct", peer)


async def test_concurrent_opens_create_one_room(store: Store) -> None:
    await store.login("alice", "bob")
    asking = [store.open_direct(*pair) for pair in [("alice", "bob"), ("bob", "alice")] * 20]
    opened = await asyncio.gather(*asking)
    assert len({each.room.room for each in opened}) == 1
    assert [event for event, _ in store.recorder.events] == ["room-joined"]
    assert sum(len(movement.joined) for movement in store.recorder.movements) == 2


async def test_every_pair_has_a_room_of_its_own(store: Store) -> None:
    await store.login("alice", "bob", "carol")
    pairs = [("alice", "bob"), ("alice", "carol"), ("bob", "carol")]
    rooms = {(await store.open_direct(*pair)).room.room for pair in pairs}
    assert len(rooms) == 3


async def test_nobody_can_be_added_to_a_direct_room(store: Store) -> None:
    await store.login("alice", "bob", "eve")
    room = (await store.open_direct("alice", "bob")).room.room
    with pytest.raises(Forbidden):
        await store.add_members("alice", room, ("eve",))
    with pytest.raises(Forbidden):
        await store.add_members("alice", room, ("bob",))
    with pytest.raises(RoomNotFound):
        await store.add_members("eve", room, ("eve",))


async def test_a_direct_room_with_an_unknown_user_is_refused(store: Store) -> None:
    await store.login("alice")
    with pytest.raises(UnknownUser) as caught:
        await store.open_direct("alice", "bob")
    assert caught.value.fields == {"users": ["bob"]}
    assert store.recorder.movements == []
    assert await store.list_rooms("alice") == ()


async def test_a_direct_room_can_be_opened_with_a_suspended_user(store: Store) -> None:
    bob = await store.login("alice", "bob")
    offset = store.recorder.last_attachment.offset
    await store.lose(bob)
    room = (await store.open_direct("alice", "bob")).room.room
    await store.append_message("alice", room, "hi", None)
    attachment = await store.resume(bob, offset)
    assert [publication.event for publication in attachment.missed] == ["room-joined", "message"]
    assert [each.user for each in attachment.rooms] == ["alice"]


async def test_a_user_who_left_returns_to_the_same_room_by_opening_it(store: Store) -> None:
    await store.login("alice", "bob")
    room = (await store.open_direct("alice", "bob")).room.room
    await store.append_message("alice", room, "one", None)
    await store.remove_member("alice", room)
    store.recorder.effects.clear()
    again = (await store.open_direct("alice", "bob")).room
    assert (again.room, again.member_count, again.user) == (room, 2, "bob")
    assert store.recorder.events == [("user-joined", {"room": room, "username": "alice", "by": "alice"})]
    assert store.recorder.movements == [Movement(room, joined=("alice",))]
    assert await contents(store, "alice", room) == ["one"]


@pytest.mark.parametrize("stays", ["alice", "bob"])
async def test_a_later_holder_of_a_name_gets_another_room(store: Store, stays: str) -> None:
    """A later holder cannot read, in any way, what a former holder of the name wrote."""
    sessions = {name: await store.login(name) for name in ("alice", "bob")}
    (goes,) = sessions.keys() - {stays}
    offset = store.recorder.last_attachment.offset
    room = (await store.open_direct("alice", "bob")).room.room
    await store.append_message(stays, room, "secret", None)
    await store.end_session(sessions[goes], f"c-{goes}")
    later = await store.login(goes)
    assert (await store.resume(later, offset)).missed == ()
    with pytest.raises(RoomNotFound):
        await store.read_history(goes, room, None, 10)
    names = {(await store.open_direct(*pair)).room.room for pair in ((goes, stays), (stays, goes))}
    assert len(names) == 1
    assert room not in names
    assert await contents(store, goes, *names) == []
    assert await contents(store, stays, room) == ["secret"]  # what is left of the old room is the remaining one's
    with pytest.raises(Forbidden):
        await store.add_members(stays, room, (goes,))
