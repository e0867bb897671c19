"""Whom a user finds, with each setting of `Policy.list_users`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.conftest import POLICY
from gateway.engines.base import ListUsers
from gateway.rules import people
from rules.conftest import Rules
from rules.dictionary import call

pytestmark = pytest.mark.fast


def find(rules: Rules, actor: str, prefix: str = "", limit: int = 100) -> list[str]:
    return list(call(rules.store.find_users(actor, prefix, limit)).users)


def rules_that_list(list_users: ListUsers) -> Rules:
    """Alice shares rooms with bea, who is online, and with ben, who is away; she shares none with bob."""
    rules = Rules(replace(POLICY, list_users=list_users))
    ben = rules.login("alice", "bea", "bob", "ben")
    rules.create_room("tea", "alice", "bea", "ben")
    rules.create_room("jam", "bea", "alice")
    rules.create_room("pie", "bob")
    call(rules.store.suspend_session(ben, "c-ben"))
    return rules


@pytest.mark.parametrize(
    ("list_users", "prefix", "found"),
    [
        (ListUsers.ALL, "", ["alice", "bea", "bob"]),
        (ListUsers.ALL, "b", ["bea", "bob"]),
        (ListUsers.ALL, "bo", ["bob"]),
        (ListUsers.ALL, "x", []),
        (ListUsers.PREFIX, "", ["alice", "bea"]),
        (ListUsers.PREFIX, "b", ["bea"]),
        (ListUsers.PREFIX, "bo", ["bob"]),
        (ListUsers.PREFIX, "be", ["bea"]),
        (ListUsers.PREFIX, "bob2", []),
        (ListUsers.NONE, "", ["alice", "bea"]),
        (ListUsers.NONE, "b", ["bea"]),
        (ListUsers.NONE, "bo", []),
        (ListUsers.NONE, "bob", []),
        (ListUsers.NONE, "be", ["bea"]),
    ],
)
def test_the_policy_says_which_strangers_are_found(list_users: ListUsers, prefix: str, found: list[str]) -> None:
    """Those who share a room with the user are found always, and each once; nobody who is away is."""
    assert find(rules_that_list(list_users), "alice", prefix) == found


def test_a_user_in_no_room_finds_itself() -> None:
    rules = rules_that_list(ListUsers.NONE)
    rules.login("carol")
    assert find(rules, "carol") == ["carol"]
    assert find(rules, "carol", "d") == []


@pytest.mark.parametrize("list_users", ListUsers)
def test_a_page_of_users_says_whether_there_are_more(list_users: ListUsers) -> None:
    rules = Rules(replace(POLICY, list_users=list_users))
    rules.login("ann", "amy", "art")
    rules.create_room("tea", "ann", "amy", "art")
    for limit, found, more in ((1, ("amy",), True), (2, ("amy", "ann"), True), (3, ("amy", "ann", "art"), False)):
        page = call(rules.store.find_users("ann", "", limit))
        assert (page.users, page.more) == (found, more)


def test_of_very_many_companions_those_in_the_smallest_rooms_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MAX_COMPANIONS", 3)
    rules = Rules(replace(POLICY, list_users=ListUsers.NONE))
    rules.login("alice", "bea", "ben", "bob", "yan", "zed")
    rules.create_room("crowd", "alice", "bea", "ben", "bob")
    rules.create_room("pair", "alice", "zed")
    assert find(rules, "alice") == ["alice", "zed"]
    monkeypatch.undo()
    assert find(rules, "alice") == ["alice", "bea", "ben", "bob", "zed"]
