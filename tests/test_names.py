"""Room names that look alike are one name or none, and a message has something to see."""

from __future__ import annotations

import contextlib
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.conftest import Recorder, sqlite_store
from gateway.protocol.names import is_visible, room_name
from gateway.rules.sessions import Claim
from harness.client import fail, succeed
from harness.names import fresh_name

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.process import StartGateway

ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
EYE = "\U0001f441\ufe0f\u200d\U0001f5e8\ufe0f"

KEPT = [
    "tea",
    "a b",
    "берлин",
    "Team-Берлин",
    "tea чай",
    "お茶ティー",
    "日本語とEnglish",
    "tea茶",
    "한글",
    "漢字한글abc",
    "ㄅㄆ中a",
]
KEPT += ["हिन्दी", "ภาษาไทย", "བསྒྲུབས", "עברית", "Ελλάδα"]
KEPT += ["l\u2019été", "C++/Си", "'; drop table rooms; --", "%s", "../"]
KEPT += [
    FAMILY,
    EYE,
    ENGLAND,
    "❤",
    "❤\ufe0f",
    "☕",
    "1\ufe0f\u20e3",
    "👍🏻",
    "🧑🏽\u200d🚀",
    "🏳\ufe0f\u200d🌈",
    "🇩🇪",
    "👮🏿\u200d♀\ufe0f",
    "👯\u200d♂\ufe0f",
    "🏃🏽\u200d♀\ufe0f\u200d➡\ufe0f",
    "👩🏻\u200d❤\ufe0f\u200d💋\u200d👨🏿",
    "🧑🏻\u200d🤝\u200d🧑🏿",
    "🫱🏻\u200d🫲🏿",
    "👩\u200d👧\u200d👦",
    "👨\u200d🦰",
    "❤\ufe0f\u200d🔥",
    "🐻\u200d❄\ufe0f",
    "😶\u200d🌫\ufe0f",
    "⛓\ufe0f\u200d💥",
    "Чат🔥Gaming",
    "™\ufe0f",
    "🈁",
]
KEPT += ["\U0001fae8", "\U0001fadc"]  # emoji of Unicode 15 and 16

SAME = {
    "  tea ": "tea",
    "a   b": "a b",
    "a\u00a0b": "a b",
    "a\u3000b\u2003": "a b",
    "cafe\u0301": "café",
    "ｔｅａ": "tea",
    "ﬁsh": "fish",
    "①": "1",
    "K": "K",  # the sign of kelvin
    "😮\ufe0f\u200d💨": "😮\u200d💨",
    "🕵\ufe0f\u200d♀": "🕵\ufe0f\u200d♀\ufe0f",
    "\u1112\u1161\u11ab\u1100\u1173\u11af": "한글",
    "☕\ufe0f": "☕",
    "1\u20e3": "1\ufe0f\u20e3",
    "\U0001f441\u200d\U0001f5e8": EYE,
}

REFUSED = [
    "",
    " ",
    "\u00a0\u3000",
    "\u200b",
    "\u202e",
    "\u3164",
    "\u115f",
    "\u1160",
    "\uffa0",
    "\u2800",
    "\u00ad",
    "\ufeff",
]
REFUSED += [
    "tea\u200b",
    "\u200etea",
    "te\u2060a",
    "tea\u00ad",
    "tea\u3164",
    "tea\u2800",
    "tea\ufe0f",
    "☕\ufe0e",
    "tea\u034f",
]
REFUSED += [
    "a\u2028b",
    "a\u2029b",
    "a\u1680b",
    "a\tb",
    "tea\n",
    "\x00",
    "a\x7f",
    "a\x85",
    "\ue000",
    "\U0010ffff",
    "\u0378",
    "\ufdd0",
]
REFUSED += ["\U0001d159", "tea\U0001d159", "tea\ufffc", "tea\U00013441", "tea\U00013442"]
REFUSED += ["😀\u200d😀", "❤\u200d❤", "\u200d".join("👨👨👨👨👨"), "👨\u200d😀", "🚀\u200d🧑"]
REFUSED += ["ti\u0307p", "ti\u0323\u0307p", "l\u0307", "t\u0131\u0307p"]
REFUSED += [f"te{sign}\u0430" for sign in "`^$+\u2018\u201b\u2032\u055a"]
REFUSED += ["1\u0662", "\u0967\u09e8"]
REFUSED += ["te\u0430", "раypal", "tea_чаеk", "αlpha", "аб茶", "Ꭲea", "ａ\u0430", "\u0585n", "茶чай", "한a\u3042"]
REFUSED += [
    "a\u200db",
    "👍\u200d",
    "\u200d👍",
    "👩\u200da",
    "\U0001f3f4\U000e0061\U000e007f",
    "tea\U000e0041",
    "葛\U000e0100",
]
REFUSED += [
    "\u0301",
    "a \u0301",
    "e\u0301\u0301",
    "a\u0300\u0301\u0302\u0303\u0304",
    "x" * 65,
    "é" * 65,
    "\ufdfa" * 4,
    "e\u0301" * 65,
]


@pytest.mark.fast
@pytest.mark.parametrize("name", KEPT)
def test_a_readable_name_is_kept(name: str) -> None:
    """Whatever its script, with the emoji that people use."""
    assert room_name(name, 64) == name


@pytest.mark.fast
@pytest.mark.parametrize("text", SAME)
def test_every_spelling_of_a_name_is_the_same_name(text: str) -> None:
    """Composed or not, wide or narrow, with whatever spaces and selectors."""
    assert room_name(text, 64) == SAME[text]


@pytest.mark.fast
@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_an_unreadable_name_is_refused(text: str) -> None:
    """The reason is a sentence in printable characters."""
    with pytest.raises(ValueError, match=r"^Must .*\.$") as caught:
        room_name(text, 64)
    assert len(str(caught.value)) < 250


@pytest.mark.fast
@given(
    st.text(st.one_of(st.characters(), st.sampled_from("a\u0430 \u200d\ufe0f\u20e31👩❤\u0301☕🏻\uff11")), max_size=20)
)
def test_normalizing_a_name_again_changes_nothing(text: str) -> None:
    """What a room is called after one request names it in the next, in every form of Unicode."""
    with contextlib.suppress(ValueError, UnicodeEncodeError):
        name = room_name(text, 64)
        assert room_name(name, 64) == name
        assert room_name(unicodedata.normalize("NFC", name), 64) == name
        if not set("\ufe0f\u20e3") & set(name):
            assert room_name(unicodedata.normalize("NFD", name), 64) == name


BLANK = [
    "",
    " ",
    "\n\t",
    "\u200b",
    "\u3164",
    "\u115f\u1160",
    "\uffa0",
    "\u2800\u2800",
    "\u2028",
    "\u00a0\u3000",
    "\x00",
]
BLANK += ["\ufffc", "\U0001d159", "\U00013441", "\ufffe\uffff", "\U0010ffff"]
BLANK += ["\ufeff", "\u202e\u2066", "\u034f", "\ufe0f", "\u200d", "\u0301", "\U000e0041", "\u180e", "\u00ad \u061c"]


@pytest.mark.fast
@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_blank_text_is_not_visible(text: str) -> None:
    """Alone or repeated; with one letter there is something to see."""
    assert not is_visible(text)
    assert not is_visible(text * 50)
    assert is_visible(f"{text}x")
    assert is_visible(f"{text}🫖{text}")


async def test_a_message_without_visible_text_is_refused(client: ChatClient, join: Join) -> None:
    """`invalid_payload`, and nobody receives it; what surrounds a visible character arrives unchanged."""
    bob = await join()
    room = fresh_name("room")
    await succeed(client, "create-room", room=room, users=[bob.username])
    await bob.next_event("room-joined")
    for content in BLANK:
        error = await fail(client, "send-msg", "invalid_payload", room=room, content=content)
        assert set(error["fields"]) == {"content"}
    assert await bob.drain() == []
    await succeed(client, "send-msg", room=room, content="\u200b\u3164x\u2800 ")
    assert (await bob.next_event("message")).fields["content"] == "\u200b\u3164x\u2800 "


async def test_every_action_accepts_every_spelling_of_a_name(client: ChatClient, join: Join) -> None:
    """A room is created, used and left under any spelling; replies and events have the normal one."""
    bob = await join()
    room = f"café ☕ {fresh_name('room')}"
    typed = f" {unicodedata.normalize('NFD', room).replace('☕', '☕' + chr(0xFE0F))}\u00a0"
    reply = await succeed(client, "create-room", room=typed)
    assert reply["room"] == room
    for spelling in (room, typed):
        await fail(bob, "create-room", "room_exists", room=spelling)
    await succeed(client, "add-user", room=typed, users=[bob.username])
    assert (await bob.next_event("room-joined")).fields["room"] == room
    await succeed(client, "send-msg", room=typed, content="x", id="1")
    assert (await succeed(client, "send-msg", room=room, content="x", id="1"))["duplicate"] is True
    assert (await bob.next_event("message")).fields["room"] == room
    await succeed(bob, "typing", room=typed)
    assert (await client.next_event("typing")).fields["room"] == room
    assert (await succeed(bob, "list-members", room=typed))["member_count"] == 2
    assert len((await succeed(bob, "history", room=typed))["messages"]) == 1
    await succeed(bob, "leave-room", room=typed)
    assert (await client.next_event("user-left")).fields["room"] == room


async def test_the_length_of_a_name_is_that_of_its_normal_form(client: ChatClient) -> None:
    """64 characters may be typed as 128; what is longer when it is kept is too long."""
    room = (fresh_name("room") + "é" * 64)[:64]
    typed = unicodedata.normalize("NFD", room)
    assert len(typed) > 64
    assert (await succeed(client, "create-room", room=typed))["room"] == room
    await succeed(client, "send-msg", room=typed, content="x")
    for action, more in (("create-room", {}), ("history", {}), ("send-msg", {"content": "x"})):
        error = await fail(client, action, "invalid_payload", room=f"{typed}é", **more)
        assert set(error["fields"]) == {"room"}
    await fail(client, "create-room", "invalid_payload", room="＠" + room[:10])


async def test_an_error_shows_at_most_a_hundred_characters_of_a_name(start_gateway: StartGateway, join: Join) -> None:
    """However long names may be."""
    own = await start_gateway(max_room_name_length=5000, max_frame_size=200_000)
    client = await join(to=own)
    room = "y" * 5000
    await succeed(client, "create-room", room=room)
    errors = [
        await fail(client, "y" * 5000, "unknown_action"),
        await fail(client, "create-room", "room_exists", room=room),
        await fail(client, "history", "room_not_found", room="y" * 4999),
        await fail(client, "history", "room_not_found", room="\u0430y" * 2500),
        await fail(client, "create-room", "invalid_payload", room="\u0430" + "y" * 4999),
    ]
    for error in errors:
        assert "y" * 45 in error["message"].replace("\u0430", "y")
        assert error["message"].replace("\u0430", "y").count("y") < 110


@pytest.mark.fast
async def test_rooms_of_an_older_store_can_still_be_used(tmp_path: Path) -> None:
    """Their names are taken as they are, before any other spelling; a new room cannot have one."""
    engine = sqlite_store(tmp_path / "gateway.db")
    await engine.open(Recorder())
    for name in ("alice", "bob"):
        await engine.attach_session(Claim(name, f"c-{name}", None))
    for old in ("cafe\u0301", "te\u0430", " "):
        await engine.create_room("alice", old, ())  # as the versions before did, without `room_name`
        await engine.append_message("alice", old, old, None)
        assert len((await engine.read_history("alice", old, None, 10)).bodies) == 1
        await engine.add_members("alice", old, ("bob",))
    await engine.create_room("bob", "café", ())
    assert (await engine.list_members("bob", "café", "", 10)).member_count == 1
    assert (await engine.list_members("bob", "cafe\u0301", "", 10)).member_count == 2
    await engine.remove_member("bob", "cafe\u0301")
    assert (await engine.list_members("bob", "cafe\u0301", "", 10)).member_count == 1
    await engine.close(5)
