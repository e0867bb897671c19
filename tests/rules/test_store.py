"""What every rule keeps to, so that it runs on every engine."""

from __future__ import annotations

import pytest

from gateway.engines.sqlite.transaction import _run_to_end
from gateway.errors import GatewayError, LimitReached, RoomNotFound
from gateway.rules.sessions import Claim
from rules.conftest import Rules
from rules.dictionary import DictTransaction, call

pytestmark = pytest.mark.fast


def test_a_read_after_a_write_fails(rules: Rules) -> None:
    """What the other tests here rely on: a shared store keeps what was written only when the rule has returned."""

    async def wrong(tx: DictTransaction) -> None:
        tx.departures.note("tea", "alice")
        await tx.rooms.named("tea")

    with pytest.raises(AssertionError, match="reads after it has written"):
        call(rules.engine.run("alice", wrong))  # type: ignore[arg-type]


def test_a_refused_call_changes_nothing(rules: Rules) -> None:
    rules.login("alice", "bob")
    call(rules.store.create_room("alice", "tea", ()))
    newest, effects = rules.engine.data.newest, len(rules.recorder.effects)
    for refused in (
        rules.store.create_room("alice", "tea", ()),
        rules.store.create_room("alice", "jam", ("nobody",)),
        rules.store.create_room("nobody", "jam", ()),
        rules.store.add_members("bob", "tea", ("bob",)),
        rules.store.add_members("alice", "tea", ("bob", "nobody")),
        rules.store.open_direct("alice", "nobody"),
        rules.store.open_direct("nobody", "alice"),
        rules.store.remove_member("bob", "tea"),
        rules.store.publish_typing("bob", "tea"),
        rules.store.read_history("alice", "tea", "nothing", 10),
        rules.store.attach_session(Claim("alice", "c-other")),
    ):
        with pytest.raises(GatewayError):
            call(refused)
    assert (rules.engine.data.newest, len(rules.recorder.effects)) == (newest, effects)
    assert rules.engine.data.left == {}


def test_a_full_store_refuses_additions_and_lets_everybody_leave(rules: Rules) -> None:
    rules.login("alice", "bob")
    call(rules.store.create_room("alice", "tea", ()))
    rules.engine.data.full = True
    for refused in (
        rules.store.create_room("alice", "jam", ()),
        rules.store.add_members("alice", "tea", ("bob",)),
        rules.store.open_direct("alice", "bob"),
    ):
        with pytest.raises(LimitReached):
            call(refused)
    rules.login("carol")
    call(rules.store.remove_member("alice", "tea"))
    assert rules.engine.data.rooms == {}


@pytest.mark.parametrize("room", ["coffee", "  tea\u200b", "", "cafe\u0301"])
def test_a_room_not_found_is_named_by_its_normal_form(rules: Rules, room: str) -> None:
    rules.login("alice")
    with pytest.raises(RoomNotFound, match=r"You are not in a room named"):
        call(rules.store.list_members("alice", room, "", 10))


def test_an_embedded_engine_refuses_a_rule_that_awaits_something() -> None:
    """It would stand between the others of its batch."""

    class Forever:
        def __await__(self) -> object:
            yield

    async def waiting() -> None:
        await Forever()  # type: ignore[misc]

    with pytest.raises(RuntimeError, match="a rule waited"):
        _run_to_end(waiting())
