"""The WebSocket parser (RFC 6455) by plain calls: every rule, every way to split the bytes, every limit."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.servers.websocket import rfc6455
from gateway.servers.websocket.rfc6455 import CloseCode, Message, Opcode, Parser, ProtocolError

pytestmark = pytest.mark.fast

MAX_SIZE = 131_072
MASK = b"\x37\xfa\x21\x3d"


def client_frame(opcode: int, payload: bytes = b"", *, head: int = 0x80, mask: bytes = MASK) -> bytes:
    """A masked frame. ``head``: FIN and the reserved bits."""
    unmasked = rfc6455.frame(opcode, payload)
    start = len(unmasked) - len(payload)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((head | opcode, 0x80 | unmasked[1])) + unmasked[2:start] + mask + masked


def fragments(opcode: int, *parts: bytes) -> list[bytes]:
    """A message in as many frames."""
    last = len(parts) - 1
    return [
        client_frame(opcode if index == 0 else Opcode.CONTINUATION, part, head=0x80 if index == last else 0)
        for index, part in enumerate(parts)
    ]


def parse(*segments: bytes, max_size: int = MAX_SIZE) -> list[Message]:
    """All messages in bytes that arrive so."""
    parser = Parser(max_size)
    found = []
    for segment in segments:
        parser.feed(segment)
        while (message := parser.next_message()) is not None:
            found.append(message)
    return found


def refused(*segments: bytes, max_size: int = MAX_SIZE) -> int:
    """The close code for bytes that break the protocol."""
    with pytest.raises(ProtocolError) as error:
        parse(*segments, max_size=max_size)
    return error.value.code


# --- headers


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x40, 0x70])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.CLOSE])
def test_reserved_bits_are_refused(bits: int, opcode: int) -> None:
    """No extension is negotiated, so that no reserved bit means anything (section 5.2)."""
    assert refused(client_frame(opcode, head=0x80 | bits)) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF])
def test_unknown_opcodes_are_refused(opcode: int) -> None:
    """Section 5.2."""
    assert refused(client_frame(opcode)) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", list(Opcode))
def test_frames_without_a_mask_are_refused(opcode: int) -> None:
    """A client masks everything, even nothing (section 5.1)."""
    assert refused(rfc6455.frame(opcode, b"")) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
def test_control_frames_are_short_and_unfragmented(opcode: int) -> None:
    """At most 125 bytes and never fragmented (section 5.5)."""
    assert parse(client_frame(opcode, b"x" * 125)) == [Message(opcode, b"x" * 125)]
    assert refused(client_frame(opcode, b"x" * 126)) == CloseCode.PROTOCOL_ERROR
    assert refused(client_frame(opcode, b"x", head=0)) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("bad", [b"\xc1\x80", b"\x83\x80", b"\x81\x00", b"\x89\xfe", b"\x09\x80", b"\x80\x80"])
def test_a_wrong_header_is_refused_before_its_payload(bad: bytes) -> None:
    """Two bytes are enough to know."""
    assert refused(bad) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, MAX_SIZE])
def test_every_form_of_a_length_is_understood(length: int) -> None:
    """7, 16 and 64 bits, on both sides of every border (section 5.2)."""
    payload = os.urandom(length)
    assert parse(client_frame(Opcode.BINARY, payload)) == [Message(Opcode.BINARY, payload)]


@pytest.mark.parametrize("length", [MAX_SIZE + 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_length_beyond_the_limit_is_refused_at_once(length: int) -> None:
    """Before any of the payload has come, and before any memory is taken for it."""
    assert refused(b"\x82\xff" + length.to_bytes(8, "big")) == CloseCode.MESSAGE_TOO_BIG


def test_the_limit_holds_for_all_fragments_together() -> None:
    """Many small frames make no bigger message than one."""
    parts = [b"x" * 400, b"x" * 400, b"x" * 200]
    assert parse(*fragments(Opcode.BINARY, *parts), max_size=1_000) == [Message(Opcode.BINARY, b"x" * 1_000)]
    assert refused(*fragments(Opcode.BINARY, *parts, b"x"), max_size=1_000) == CloseCode.MESSAGE_TOO_BIG


def test_control_frames_do_not_count_towards_the_size_of_a_message() -> None:
    """A ping inside a message that has its full size is still a ping."""
    first, last = fragments(Opcode.TEXT, b"x" * 100, b"")
    ping = client_frame(Opcode.PING, b"y" * 100)
    assert parse(first, ping, last, max_size=100)[0] == Message(Opcode.PING, b"y" * 100)


# --- fragmentation


def test_a_fragmented_message_is_one_message() -> None:
    """It has the opcode of its first frame; empty fragments are allowed (section 5.4)."""
    assert parse(*fragments(Opcode.TEXT, b"", b"Hel", b"", b"lo", b"")) == [Message(Opcode.TEXT, b"Hello")]


def test_control_frames_may_come_between_fragments() -> None:
    """Pings and pongs are seen before the message that they interrupt (section 5.4)."""
    first, second, last = fragments(Opcode.BINARY, b"a", b"b", b"c")
    ping, pong = client_frame(Opcode.PING, b"1"), client_frame(Opcode.PONG, b"2")
    messages = parse(first, ping, second, pong, last)
    assert messages == [
        Message(Opcode.PING, b"1"),
        Message(Opcode.PONG, b"2"),
        Message(Opcode.BINARY, b"abc"),
    ]


@pytest.mark.parametrize("head", [0, 0x80])
def test_a_continuation_without_a_message_is_refused(head: int) -> None:
    """At the start, and after a message that is complete."""
    continuation = client_frame(Opcode.CONTINUATION, b"x", head=head)
    assert refused(continuation) == CloseCode.PROTOCOL_ERROR
    assert refused(client_frame(Opcode.TEXT, b"x"), continuation) == CloseCode.PROTOCOL_ERROR
    assert refused(*fragments(Opcode.TEXT, b"x", b"y"), continuation) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_inside_another_is_refused(opcode: int) -> None:
    """Messages do not interleave without an extension (section 5.4)."""
    first = fragments(Opcode.TEXT, b"x", b"y")[0]
    assert refused(first, client_frame(opcode, b"z")) == CloseCode.PROTOCOL_ERROR


def test_the_number_of_fragments_is_bounded() -> None:
    """As many as make sense for the size of a message, 1,024 at least; empty ones count as well."""
    assert len(parse(*fragments(Opcode.BINARY, *[b"x"] * 1_024), max_size=2_000)) == 1
    assert refused(*fragments(Opcode.BINARY, *[b"x"] * 1_026), max_size=2_000) == CloseCode.MESSAGE_TOO_BIG
    endless = fragments(Opcode.BINARY, *[b""] * (MAX_SIZE // rfc6455.FRAGMENT_SIZE + 2))
    assert refused(*endless) == CloseCode.MESSAGE_TOO_BIG


# --- text


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", "é".encode()[:1], b"ok \xf8"],
)
def test_text_must_be_utf8(text: bytes) -> None:
    """Overlong forms, surrogates and partial characters are refused (section 8.1); binary is not checked."""
    assert refused(client_frame(Opcode.TEXT, text)) == CloseCode.INVALID_DATA
    assert refused(*fragments(Opcode.TEXT, text[:1], text[1:])) == CloseCode.INVALID_DATA
    assert parse(client_frame(Opcode.BINARY, text)) == [Message(Opcode.BINARY, text)]


def test_a_character_may_be_split_across_fragments() -> None:
    """Only the whole message is text (section 5.6)."""
    whole = "κόσμε 🙂".encode()
    parts = [whole[index : index + 1] for index in range(len(whole))]
    assert parse(*fragments(Opcode.TEXT, *parts)) == [Message(Opcode.TEXT, whole)]


# --- close


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 3999, 4999])
def test_valid_close_codes_are_accepted(code: int) -> None:
    """Section 7.4, with a reason or without."""
    assert rfc6455.close_code(code.to_bytes(2, "big")) == code
    assert rfc6455.close_code(code.to_bytes(2, "big") + "so é".encode()) == code


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_invalid_close_codes_are_refused(code: int) -> None:
    """Those that are only ever reported, and those that nobody has defined (section 7.4.2)."""
    with pytest.raises(ProtocolError) as error:
        rfc6455.close_code(code.to_bytes(2, "big"))
    assert error.value.code == CloseCode.PROTOCOL_ERROR


def test_the_payload_of_a_close_frame_is_checked() -> None:
    """Nothing, or two bytes and text (section 5.5.1)."""
    assert rfc6455.close_code(b"") == CloseCode.NO_STATUS
    with pytest.raises(ProtocolError) as error:
        rfc6455.close_code(b"\x03")
    assert error.value.code == CloseCode.PROTOCOL_ERROR
    with pytest.raises(ProtocolError) as error:
        rfc6455.close_code(b"\x03\xe8\xff")
    assert error.value.code == CloseCode.INVALID_DATA


# --- the handshake

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_example_of_the_rfc_is_accepted() -> None:
    """Section 1.3."""
    assert rfc6455.accept_key(HANDSHAKE) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Upgrade", ""),
        ("Upgrade", "h2c"),
        ("Connection", "keep-alive"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Version", ""),
        ("Sec-WebSocket-Key", ""),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ"),
        ("Sec-WebSocket-Key", "c2hvcnQ="),
        ("Sec-WebSocket-Key", "é" * 24),
    ],
)
def test_an_invalid_handshake_is_refused(header: str, value: str) -> None:
    """The message names the header (section 4.2.1)."""
    with pytest.raises(ValueError, match=header):
        rfc6455.accept_key({**HANDSHAKE, header: value})


# --- what goes out


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frames_of_the_server_are_whole_and_unmasked(length: int) -> None:
    """One whole frame, no mask, and the payload can be had back."""
    payload = b"x" * length
    frame = rfc6455.binary_frame(payload)
    assert frame[0] == 0x82
    assert not frame[1] & 0x80
    again = rfc6455.text_frame(b"and another")
    assert list(rfc6455.payloads_of(frame + again)) == [(2, payload), (1, b"and another")]


@given(payload=st.binary(max_size=300), mask=st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_xor_of_the_rfc(payload: bytes, mask: bytes) -> None:
    """Byte by byte with the mask, over and over (section 5.3)."""
    assert rfc6455.unmask(payload, mask) == bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


# --- segments

CONVERSATION = [
    client_frame(Opcode.TEXT, "Grüße".encode()),
    client_frame(Opcode.PING, b"p"),
    *fragments(Opcode.BINARY, b"a" * 130, b"", b"c"),
    client_frame(Opcode.TEXT, b"x" * 126),
    client_frame(Opcode.CLOSE, b"\x03\xe8bye"),
]
SAID = [
    Message(Opcode.TEXT, "Grüße".encode()),
    Message(Opcode.PING, b"p"),
    Message(Opcode.BINARY, b"a" * 130 + b"c"),
    Message(Opcode.TEXT, b"x" * 126),
    Message(Opcode.CLOSE, b"\x03\xe8bye"),
]


def test_bytes_may_be_split_anywhere() -> None:
    """In two at every position, and one at a time."""
    stream = b"".join(CONVERSATION)
    for position in range(len(stream) + 1):
        assert parse(stream[:position], stream[position:]) == SAID
    assert parse(*(stream[index : index + 1] for index in range(len(stream)))) == SAID


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Message], bytes]:
    """Messages that a client may send, and one of the ways to send them."""
    said, sent = [], []

    def control() -> None:
        for opcode in draw(st.lists(st.sampled_from([Opcode.PING, Opcode.PONG]), max_size=2)):
            payload = draw(st.binary(max_size=125))
            said.append(Message(opcode, payload))
            sent.append(client_frame(opcode, payload, mask=draw(st.binary(min_size=4, max_size=4))))

    for data in draw(st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=5)):
        opcode, payload = (Opcode.TEXT, data.encode()) if isinstance(data, str) else (Opcode.BINARY, data)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for fragment in fragments(opcode, *parts):
            control()
            sent.append(fragment)
        said.append(Message(opcode, payload))
    return said, b"".join(sent)


@given(conversation=conversations(), cuts=st.lists(st.integers(0, 2_000), max_size=20))
def test_any_conversation_in_any_segments_is_parsed(conversation: tuple[list[Message], bytes], cuts: list[int]) -> None:
    """The same messages come out, however they were fragmented and whatever the network made of it."""
    said, stream = conversation
    positions = sorted({min(cut, len(stream)) for cut in cuts})
    segments = [stream[a:b] for a, b in zip([0, *positions], [*positions, len(stream)], strict=True)]
    assert parse(*segments) == said


@settings(max_examples=500)
@given(segments=st.lists(st.binary(max_size=80), max_size=8))
@example(segments=[b"\x81\x80\x00\x00\x00\x00"])
@example(segments=[b"\x88\x82\x00\x00\x00\x00\x03\xe8"])
@example(segments=[b"\x01\xfe\xff\xff", b"\x00"])
def test_any_bytes_are_messages_or_a_protocol_error(segments: list[bytes]) -> None:
    """Nothing but a ProtocolError ever comes out, and its code may be sent in a close frame."""
    try:
        for message in parse(*segments):
            if message.opcode == Opcode.TEXT:
                message.data.decode()
    except ProtocolError as error:
        assert rfc6455.close_code(error.code.to_bytes(2, "big")) == error.code


# --- memory


def held_by(segments: list[bytes]) -> int:
    """Bytes that a parser holds after these, none of which completes a message."""
    tracemalloc.start()
    try:
        parser = Parser(MAX_SIZE)
        before, _ = tracemalloc.get_traced_memory()
        for segment in segments:
            parser.feed(bytes(bytearray(segment)))
            assert parser.next_message() is None
        after, _ = tracemalloc.get_traced_memory()
        return after - before
    finally:
        tracemalloc.stop()


def test_a_partial_message_takes_no_more_memory_than_its_size() -> None:
    """In one frame that trickles in, and in as many fragments as there may be."""
    whole = client_frame(Opcode.BINARY, b"x" * MAX_SIZE)
    assert held_by([whole[start : start + 100] for start in range(0, len(whole) - 100, 100)]) < 1.3 * MAX_SIZE
    count = MAX_SIZE // rfc6455.FRAGMENT_SIZE
    trickle = fragments(Opcode.BINARY, *[b"x" * rfc6455.FRAGMENT_SIZE] * count)[:-1]
    assert held_by(trickle) < 1.3 * MAX_SIZE


def test_no_memory_is_held_between_messages() -> None:
    """A parser that has returned every message holds next to nothing."""
    parser = Parser(MAX_SIZE)
    tracemalloc.start()
    try:
        for _ in range(20):
            whole = client_frame(Opcode.BINARY, b"x" * 60_000)
            parser.feed(whole[:30_000])
            assert parser.next_message() is None
            parser.feed(whole[30_000:])
            assert parser.next_message() is not None
        del whole
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20_000
