"""What identifies a frame for its client: `ref` on the plain wire, and the `id` of a message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.protocol.offsets import looks_like_offset, parse_offset
from gateway.servers.jsonio import decode, raw_member
from harness.client import fail, make_room, succeed

if TYPE_CHECKING:
    from harness.client import ChatClient, Join

REFS = [
    "1",
    "0",
    "-0",
    "1.0",
    "-0.0",
    "1e5",
    "1E+05",
    "0.10",
    "123456789012345678901234567890",
    "18446744073709551616",
    "9007199254740993",
    "1.0000000000000000000000001",
    "1E400",
    "-1e309",
    "9" * 4000,
    "1" + "0" * 400 + ".0",
    "null",
    "true",
    '""',
    '"plain"',
    '"\u00e9\U0001f600"',
    '"\\u00e9\\u00E9\\/\\n"',
    '"\\ud83d"',
    '"a \\"ref\\": 2, }"',
    '{"b":1,"a":2,"b":3}',
    '{ "z" : [ 1.0 , 2 ] ,\t"a":\n{} }',
    '[[],{"ref":1},"]"]',
    "[" * 200 + "]" * 200,
]


def frame(ref: str, *, before: str = "", after: str = "") -> str:
    return f'{{{before}"ref":{ref}{after}}}'


@pytest.mark.parametrize("action", ["list-rooms", "send-msg", "nonsense"])
@pytest.mark.parametrize("binary", [False, True])
async def test_a_ref_is_echoed_byte_for_byte(join: Join, action: str, binary: bool) -> None:
    """Whatever JSON it is, wherever it stands, and whether the action succeeds."""
    client = await join()
    for ref in REFS:
        for text in (
            frame(ref, before=f'"action":"{action}",'),
            frame(f" {ref}\r\n", after=f', "action" : "{action}"'),
            frame("[0]", before=f'"action":"{action}",', after=f',"re\\u0066":{ref}'),
            frame(ref, before=f'"extra":1e999,"action":"{action}",'),
        ):
            await client.send(text.encode() if binary else text)
            reply = await client.frames.take(lambda reply: b"reply" in _bytes(reply), f"the reply to {text}")
            assert isinstance(reply, bytes) is binary
            assert f'"ref":{ref},'.encode() in _bytes(reply), text
            json.loads(reply)


def test_a_ref_may_be_a_number_of_any_length() -> None:
    """A number that JavaScript reads as infinite keeps its digits."""
    for number in ("1e999", "9" * 5_000, "9" * 100_000, "1" + "0" * 400 + ".5"):
        frame_ = f'{{"ref":-{number}}}'.encode()
        value = decode(frame_)["ref"]
        assert value == float("-inf")
        assert raw_member(frame_, "ref", value) == f"-{number}".encode()


async def test_a_reply_has_no_ref_where_the_action_had_none(join: Join) -> None:
    """One that is inside of something else is not the frame's."""
    client = await join()
    await client.send('{"action":"list-rooms","x":{"ref":1},"y":"\\"ref\\":2"}')
    reply = await client.frames.take(lambda reply: b"reply" in _bytes(reply), "the reply")
    assert b'"ref"' not in _bytes(reply)


async def test_a_ref_that_cannot_be_echoed_is_an_invalid_payload(join: Join) -> None:
    """Nested too deeply, or hidden among a thousand other members."""
    client = await join()
    for text in (frame("[" * 60_000 + "]" * 60_000), frame("[]", before='"a":[0],' * 2_000)):
        await client.send(text)
        reply = await client.replies.take(lambda _: True, "the reply")
        assert reply["error"]["code"] == "invalid_payload"
    await succeed(client, "list-rooms")


def _bytes(reply: str | bytes) -> bytes:
    return reply.encode() if isinstance(reply, str) else reply


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.just("ref"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    members=st.lists(st.tuples(st.sampled_from(["a", "ref", 'x"', "\u00e9"]), values), max_size=6),
    ref=values,
    space=st.sampled_from(["", " ", "\n\t "]),
    ascii_only=st.booleans(),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_slice_of_a_frame_is_the_member(
    members: list[tuple[str, Any]], ref: Any, space: str, ascii_only: bool
) -> None:
    """The last member of that name, in any object, written in any way."""

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, separators=(f"{space},", f":{space}"))

    try:
        written = [(dump(name), dump(value)) for name, value in [*members, ("ref", ref)]]
        text = (space + "{" + ",".join(f"{n}{space}:{space}{v}{space}" for n, v in written) + "}" + space).encode()
    except UnicodeEncodeError:
        return  # half a character, unescaped
    assert raw_member(text, "ref", decode(text)["ref"]).decode() == dump(ref)


OFFSETS = ["0123456789ab-1", "abcdefabcdef-123456789012345678"]
NO_OFFSETS = [
    "alice-1",
    "1-2",
    "550e8400-e29b-41d4-a716-446655440000",
    "0123456789ab",
    "0123456789ab-",
    "0123456789ab-x",
    "0123456789AB-1",
    "0123456789ab-1-1",
    "0123456789abc-1",
    "0123456789ab-1234567890123456789",
]


def test_offsets_have_one_form() -> None:
    for text in OFFSETS:
        epoch, _, position = text.partition("-")
        assert looks_like_offset(text)
        assert parse_offset(text) == (epoch, int(position))
    assert not any(map(looks_like_offset, NO_OFFSETS))
    assert not any(map(parse_offset, NO_OFFSETS))


async def test_no_id_looks_like_an_offset(client: ChatClient) -> None:
    """Both name a message in `before`; ids that only resemble one are ordinary ids."""
    room = await make_room(client)
    for number, name in enumerate(NO_OFFSETS):
        reply = await succeed(client, "send-msg", room=room, content=f"message {number}", id=name)
        assert reply["id"] == name
    history = await succeed(client, "history", room=room)
    offsets = [message["offset"] for message in history["messages"]]
    for name in (*OFFSETS, *offsets):
        error = await fail(client, "send-msg", "invalid_payload", room=room, content="x", id=name)
        assert "id" in error["fields"]
    for before in (NO_OFFSETS[-1], offsets[-1]):
        page = await succeed(client, "history", room=room, before=before)
        assert [message["id"] for message in page["messages"]] == NO_OFFSETS[:-1]
