"""Rooms: who may make one, open one and be added to one, and what the members receive."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import orjson
import pytest

from engines.conftest import POLICY
from gateway import events
from gateway.errors import Forbidden, LimitReached, RoomExists, Unauthorized, UnknownUser
from gateway.rules.rooms import Added
from rules.conftest import Rules
from rules.dictionary import call

pytestmark = pytest.mark.fast

HOUR = 3_600_000
"""`Policy.decline_window`, in milliseconds."""


def published(rules: Rules) -> list[tuple[str, str]]:
    """Each event, and whom it is about: of `room-joined` the recipients."""
    return [
        (effect.event, ",".join(effect.recipients) if effect.recipients else orjson.loads(effect.body)["username"])
        for effect in rules.recorder.publications
    ]


def joined(rules: Rules) -> list[str]:
    """Who became a member of any room, in order."""
    return [username for movement in rules.recorder.movements for username in movement.joined]


def refused_users(coroutine: Coroutine[Any, Any, object]) -> list[str]:
    """Whom an error about limits names."""
    with pytest.raises(LimitReached) as caught:
        call(coroutine)
    assert caught.value.fields is not None
    return list(caught.value.fields["users"])


# --- create


def test_a_creator_who_is_among_the_users_is_one_member_like_any_other_creator(rules: Rules) -> None:
    rules.login("alice", "bob")
    room = call(rules.store.create_room("alice", "tea", ("bob", "alice")))
    assert room.member_count == 2
    assert joined(rules) == ["alice", "bob"]
    assert published(rules) == [("room-joined", "bob")]
    assert call(rules.counts("alice")).own == 1
    assert call(rules.counts("alice")).invited == 0


@pytest.mark.parametrize("among_users", [False, True])
def test_a_creator_counts_once_towards_the_limit_of_members(rules: Rules, among_users: bool) -> None:
    names = [f"user{number}" for number in range(POLICY.max_members + 1)]
    rules.login(*names)
    users = tuple(names if among_users else names[1:])
    with pytest.raises(LimitReached):
        call(rules.store.create_room(names[0], "tea", users))
    assert call(rules.store.create_room(names[0], "tea", users[:-1])).member_count == POLICY.max_members


def test_a_room_created_for_oneself_publishes_nothing(rules: Rules) -> None:
    rules.login("alice")
    rules.create_room("tea", "alice")
    assert rules.recorder.publications == []
    assert joined(rules) == ["alice"]


def test_creating_names_everybody_who_is_in_as_many_rooms_as_others_may_add_them_to(rules: Rules) -> None:
    rules.login("alice", "bob", "carol", "dave", "eve")
    for number in range(POLICY.max_rooms):
        rules.create_room(f"room {number}", "eve", "bob", "carol")
    assert refused_users(rules.store.create_room("alice", "tea", ("bob", "dave", "carol"))) == ["bob", "carol"]
    rules.leave("room 0", "bob", "carol")
    rules.create_room("tea", "alice", "bob", "dave", "carol")


def test_a_user_without_a_session_creates_and_opens_nothing(rules: Rules) -> None:
    rules.login("alice")
    for refused in (rules.store.create_room("ghost", "tea", ("alice",)), rules.store.open_direct("ghost", "alice")):
        with pytest.raises(Unauthorized):
            call(refused)


def test_a_name_in_use_is_refused_before_anything_else_is_looked_at(rules: Rules) -> None:
    rules.login("alice")
    rules.create_room("tea", "alice")
    with pytest.raises(RoomExists):
        call(rules.store.create_room("alice", "tea", ("nobody",)))


# --- direct rooms


@pytest.mark.parametrize(
    ("left", "ago", "joins", "declined", "events_"),
    [
        pytest.param((), 0, [], (), [], id="both are present"),
        pytest.param(("alice",), 0, ["alice"], (), [("user-joined", "alice")], id="the actor has left"),
        pytest.param(("bob",), HOUR - 1, [], ("bob",), [], id="the other declines"),
        pytest.param(("bob",), HOUR, ["bob"], (), [("room-joined", "bob")], id="the other left long ago"),
        pytest.param(("alice", "bob"), HOUR - 1, ["alice"], ("bob",), [], id="a new room, and the other declines"),
        pytest.param(("bob", "alice"), HOUR, ["alice", "bob"], (), [("room-joined", "bob")], id="a new room"),
    ],
)
def test_opening_a_direct_room_adds_each_of_the_two_who_is_missing_and_does_not_decline(
    rules: Rules, left: tuple[str, ...], ago: int, joins: list[str], declined: tuple[str, ...], events_: list[Any]
) -> None:
    rules.login("alice", "bob")
    first = call(rules.store.open_direct("alice", "bob")).room
    rules.leave(first.room, *left)
    rules.engine.now += ago
    rules.recorder.effects.clear()
    opened = call(rules.store.open_direct("alice", "bob"))
    assert (joined(rules), opened.declined, published(rules)) == (joins, declined, events_)
    assert (opened.room.room == first.room) == (len(left) < 2)
    shown = [member["username"] for member in orjson.loads(opened.room.members)]
    assert shown == [name for name in ("alice", "bob") if name not in declined]
    assert (opened.room.member_count, opened.room.user) == (len(shown), "bob")


def test_a_user_who_declined_comes_back_by_opening_the_room(rules: Rules) -> None:
    """And can be added by the other from then on: the departure is forgotten, also where the room had ended."""
    rules.login("alice", "bob")
    for _ in range(2):
        room = call(rules.store.open_direct("alice", "bob")).room.room
        rules.leave(room, "bob")
        assert call(rules.store.open_direct("alice", "bob")).declined == ("bob",)
        rules.leave(room, "alice")
        assert call(rules.store.open_direct("bob", "alice")).declined == ("alice",)
        assert call(rules.store.open_direct("alice", "bob")).room.member_count == 2
        assert rules.engine.data.left == {}


def test_a_direct_room_one_is_in_already_is_opened_beyond_every_limit(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    direct = call(rules.store.open_direct("alice", "bob")).room.room
    for number in range(POLICY.max_rooms - 1):
        rules.create_room(f"own {number}", "alice")
        rules.create_room(f"other {number}", "carol", "bob")
    assert refused_users(rules.store.open_direct("alice", "carol")) == ["alice"]
    assert refused_users(rules.store.open_direct("carol", "bob")) == ["bob"]
    for pair in (("alice", "bob"), ("bob", "alice")):
        assert call(rules.store.open_direct(*pair)).room.room == direct


def test_coming_back_to_a_direct_room_counts_as_a_room_of_ones_own(rules: Rules) -> None:
    rules.login("alice", "bob")
    direct = call(rules.store.open_direct("bob", "alice")).room.room
    assert call(rules.counts("alice")).invited == 1
    rules.leave(direct, "alice")
    for number in range(POLICY.max_rooms):
        rules.create_room(f"own {number}", "alice")
    assert refused_users(rules.store.open_direct("alice", "bob")) == ["alice"]
    rules.leave("own 0", "alice")
    assert call(rules.store.open_direct("alice", "bob")).room.room == direct
    assert call(rules.counts("alice")).invited == 0


def test_a_user_who_declines_is_not_checked_against_the_limit(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    rules.leave(call(rules.store.open_direct("alice", "bob")).room.room, "bob")
    for number in range(POLICY.max_rooms):
        rules.create_room(f"other {number}", "carol", "bob")
    assert call(rules.store.open_direct("alice", "bob")).declined == ("bob",)
    rules.engine.now += HOUR
    assert refused_users(rules.store.open_direct("alice", "bob")) == ["bob"]


def test_nobody_is_added_to_a_direct_room_not_even_the_one_who_left(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    room = call(rules.store.open_direct("alice", "bob")).room.room
    rules.leave(room, "bob")
    for username in ("alice", "bob", "carol", "nobody"):
        with pytest.raises(Forbidden):
            rules.add(room, username, by="alice")


# --- add


def test_the_reply_to_adding_keeps_the_order_of_the_request_in_each_of_its_lists() -> None:
    rules = Rules(replace(POLICY, max_members=6, presence_limit=6))
    rules.login("alice", "bob", "carol", "dave", "eve", "frank")
    rules.create_room("tea", "carol", "alice", "bob", "frank")
    rules.leave("tea", "frank", "bob")
    rules.recorder.effects.clear()
    added = rules.add("tea", "eve", "frank", "carol", "dave", "alice", "bob", by="alice")
    assert added == Added(("eve", "dave"), already=("carol", "alice"), declined=("frank", "bob"))
    assert published(rules) == [
        ("user-joined", "eve"),
        ("user-joined", "dave"),
        ("room-joined", "eve"),
        ("room-joined", "dave"),
    ]
    assert joined(rules) == ["eve", "dave"]


def test_those_who_are_added_receive_the_room_as_it_is_after_all_of_them_joined(rules: Rules) -> None:
    bob = rules.login("alice", "carol", "dave", "bob")
    call(rules.store.suspend_session(bob, "c-bob"))
    rules.create_room("tea", "carol", history=events.JOINED)
    rules.add("tea", "dave", "alice", "bob", by="carol")
    body = orjson.loads(rules.recorder.publications[-1].body)
    online = {"alice": True, "bob": False, "carol": True, "dave": True}
    assert body["members"] == [{"username": name, "online": online[name]} for name in sorted(online)]
    assert (body["member_count"], body["history"], body["by"]) == (4, events.JOINED, "carol")


def test_adding_nobody_new_is_possible_where_nothing_can_be_added(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    rules.create_room("tea", "alice", "bob", "carol")
    rules.leave("tea", "carol")
    rules.engine.data.full = True
    rules.recorder.effects.clear()
    assert rules.add("tea", "bob", "carol", by="alice") == Added((), already=("bob",), declined=("carol",))
    assert rules.recorder.effects == []


def test_an_unknown_user_is_named_also_among_those_who_decline(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    rules.create_room("tea", "alice", "bob")
    rules.leave("tea", "bob")
    with pytest.raises(UnknownUser) as caught:
        rules.add("tea", "bob", "zed", "carol", "yan", by="alice")
    assert caught.value.fields == {"users": ["zed", "yan"]}


def test_members_and_those_who_decline_do_not_count_towards_the_limit_of_members(rules: Rules) -> None:
    names = [f"user{number}" for number in range(POLICY.max_members + 2)]
    rules.login(*names)
    rules.create_room("tea", *names[: POLICY.max_members])
    assert rules.add("tea", *names[: POLICY.max_members], by=names[0]).added == ()
    rules.leave("tea", names[1])
    with pytest.raises(LimitReached):
        rules.add("tea", *names, by=names[0])
    assert rules.add("tea", *names[:-1], by=names[0]).added == (names[-2],)


def test_adding_names_everybody_who_is_in_as_many_rooms_as_others_may_add_them_to(rules: Rules) -> None:
    """But nobody who is a member already."""
    rules.login("alice", "bob", "carol", "dave", "eve")
    rules.create_room("tea", "alice", "dave")
    for number in range(POLICY.max_rooms):
        rules.create_room(f"room {number}", "eve", "bob", "carol")
    for number in range(POLICY.max_rooms - 1):
        rules.add(f"room {number}", "dave", by="eve")
    assert refused_users(rules.store.add_members("alice", "tea", ("carol", "dave", "bob"))) == ["carol", "bob"]
    rules.leave("room 0", "bob", "carol")
    assert rules.add("tea", "carol", "dave", "bob", by="alice").added == ("carol", "bob")


# --- leave


@pytest.mark.parametrize("members", [POLICY.presence_limit, POLICY.presence_limit + 1])
def test_who_joins_and_leaves_is_published_up_to_the_presence_limit(rules: Rules, members: int) -> None:
    """The limit itself included; of a join the size after it counts, of a leave the size before it."""
    names = [f"user{number}" for number in range(members)]
    rules.login(*names)
    rules.create_room("tea", *names[:-1])
    rules.recorder.effects.clear()
    rules.add("tea", names[-1], by=names[0])
    rules.leave("tea", names[-1])
    announced = [event for event, _ in published(rules) if event != "room-joined"]
    assert announced == (["user-joined", "user-left"] if members == POLICY.presence_limit else [])


def test_the_last_member_takes_the_room_its_log_and_its_departures_along(rules: Rules) -> None:
    rules.login("alice", "bob")
    rules.create_room("tea", "alice", "bob")
    rules.send("tea", "bob", "hello")
    rules.leave("tea", "bob", "alice")
    assert (rules.engine.data.rooms, rules.engine.data.log) == ({}, [])
    rules.create_room("tea", "alice")
    assert rules.add("tea", "bob", by="alice").added == ("bob",), "it is another room"


def test_a_member_leaves_a_room_by_any_spelling_of_its_name(rules: Rules) -> None:
    rules.login("alice")
    rules.create_room("café au lait", "alice")
    rules.leave("  cafe\u0301  au lait", "alice")
    assert rules.engine.data.rooms == {}


def test_a_page_of_members_says_whether_there_are_more(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    rules.create_room("tea", "carol", "alice", "bob")
    pages = [call(rules.store.list_members("alice", "tea", after, 2)) for after in ("", "alice", "bob", "carol")]
    names = [[member.username for member in page.members] for page in pages]
    assert names == [["alice", "bob"], ["bob", "carol"], ["carol"], []]
    assert [page.more for page in pages] == [True, False, False, False]
    assert {page.member_count for page in pages} == {3}
