"""How far a member reads back, and who receives that somebody types."""

from __future__ import annotations

import orjson
import pytest

from engines.conftest import POLICY
from gateway import events
from gateway.errors import InvalidPayload
from rules.conftest import Rules
from rules.dictionary import call

pytestmark = pytest.mark.fast


def read(rules: Rules, actor: str, before: str | None = None, limit: int = 100) -> list[str]:
    """The contents of a page of the room "tea"."""
    page = call(rules.store.read_history(actor, "tea", before, limit))
    return [orjson.loads(body)["content"] for body in page.bodies]


def refusal(rules: Rules, actor: str, before: str) -> str:
    """What is wrong with ``before``."""
    with pytest.raises(InvalidPayload) as caught:
        read(rules, actor, before)
    assert caught.value.fields is not None
    (reasons,) = caught.value.fields.values()
    return str(reasons[0])


@pytest.mark.parametrize("history", [events.ALL, events.JOINED])
def test_the_history_of_a_room_reaches_back_to_its_beginning_or_to_the_join_of_the_reader(history: str) -> None:
    rules = Rules()
    rules.login("alice", "bob", "carol")
    rules.create_room("tea", "alice", "bob", history=history)
    offset = rules.send("tea", "alice", "zero")
    rules.send("tea", "alice", "one", id_="one")
    rules.add("tea", "carol", by="alice")
    later = rules.send("tea", "bob", "two", id_="two")
    rules.send("tea", "alice", "three")
    everything = history == events.ALL
    assert read(rules, "bob") == ["zero", "one", "two", "three"]
    assert read(rules, "carol") == ["zero", "one", "two", "three"][0 if everything else 2 :]
    for before in ("two", later):
        assert read(rules, "carol", before) == (["zero", "one"] if everything else [])
        assert read(rules, "bob", before) == ["zero", "one"]
    assert read(rules, "carol", offset) == []
    if everything:
        assert read(rules, "carol", "one") == ["zero"]
    else:
        assert refusal(rules, "carol", "one") == "'one' is no message of this room."


def test_a_reader_who_left_and_was_added_again_reads_back_to_the_second_join(rules: Rules) -> None:
    rules.login("alice", "bob")
    rules.create_room("tea", "alice", "bob", history=events.JOINED)
    rules.send("tea", "alice", "before")
    rules.leave("tea", "bob")
    rules.send("tea", "alice", "between")
    rules.engine.now += 1000 * int(POLICY.decline_window)
    rules.add("tea", "bob", by="alice")
    rules.send("tea", "alice", "after")
    assert read(rules, "bob") == ["after"]
    assert read(rules, "alice") == ["before", "between", "after"]


def test_an_id_that_two_members_used_is_refused_and_an_offset_is_not(rules: Rules) -> None:
    rules.login("alice", "bob")
    rules.create_room("tea", "alice", "bob")
    rules.send("tea", "alice", "one", id_="same")
    offset = rules.send("tea", "bob", "two", id_="same")
    assert refusal(rules, "alice", "same") == "'same' is the id of several messages; give an offset."
    assert read(rules, "alice", offset) == ["one"]


def test_an_id_used_before_the_reader_joined_is_as_if_it_had_not_been_used(rules: Rules) -> None:
    rules.login("alice", "bob", "carol")
    rules.create_room("tea", "alice", "bob", history=events.JOINED)
    rules.send("tea", "alice", "one", id_="same")
    rules.add("tea", "carol", by="alice")
    rules.send("tea", "bob", "two")
    rules.send("tea", "bob", "three", id_="same")
    assert read(rules, "carol", "same") == ["two"]
    assert "several messages" in refusal(rules, "bob", "same")


def test_an_id_of_another_room_names_nothing_here(rules: Rules) -> None:
    rules.login("alice")
    rules.create_room("tea", "alice")
    rules.create_room("jam", "alice")
    rules.send("jam", "alice", "elsewhere", id_="one")
    assert refusal(rules, "alice", "one") == "'one' is no message of this room."


def test_any_offset_of_the_log_names_a_place_in_the_history(rules: Rules) -> None:
    """Also that of an event of another room, or of no message. One that is still to come names nothing."""
    rules.login("alice", "bob")
    rules.create_room("tea", "alice")
    rules.create_room("jam", "alice")
    rules.send("tea", "alice", "one")
    elsewhere = rules.send("jam", "alice", "elsewhere")
    rules.send("tea", "alice", "two")
    rules.add("tea", "bob", by="alice")
    joined = rules.last_offset
    rules.send("tea", "alice", "three")
    assert read(rules, "alice", elsewhere) == ["one"]
    assert read(rules, "alice", joined) == ["one", "two"]
    assert "no message" in refusal(rules, "alice", str(rules.engine.data.newest + 1))


def test_a_page_of_history_says_whether_there_are_older_messages(rules: Rules) -> None:
    rules.login("alice")
    rules.create_room("tea", "alice")
    rules.send("tea", "alice", "one", "two", "three")
    for limit, more in ((2, True), (3, False), (4, False)):
        page = call(rules.store.read_history("alice", "tea", None, limit))
        assert (len(page.bodies), page.more) == (min(limit, 3), more)
    assert read(rules, "alice", limit=2) == ["two", "three"]


@pytest.mark.parametrize("members", [POLICY.presence_limit, POLICY.presence_limit + 1])
def test_typing_is_published_up_to_the_presence_limit_and_never_kept(rules: Rules, members: int) -> None:
    names = [f"user{number}" for number in range(members)]
    rules.login(*names)
    rules.create_room("tea", *names)
    newest = rules.engine.data.newest
    rules.recorder.effects.clear()
    call(rules.store.publish_typing(names[1], "tea"))
    published = [
        (effect.event, effect.author, effect.offset, effect.recipients) for effect in rules.recorder.publications
    ]
    assert published == ([("typing", names[1], None, None)] if members == POLICY.presence_limit else [])
    assert rules.engine.data.newest == newest
