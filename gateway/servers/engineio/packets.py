"""Engine.IO v4 packets: in WebSocket frames, one each, and in long-polling payloads, many together.

A packet on its way out is kept as the WebSocket frame that carries it, ready for all who read frames;
long-polling takes it out again.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from typing import TYPE_CHECKING, Final, TypeAlias

from gateway.servers.websocket.rfc6455 import Opcode, binary_frame, payloads_of, text_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

Packet: TypeAlias = str | bytes
"""As it came in: text that begins with its type, or the data of a binary message."""

SEPARATOR: Final = b"\x1e"

PING: Final = text_frame(b"2")
NOOP: Final = text_frame(b"6")
CLOSE: Final = text_frame(b"1")
PONG_PROBE: Final = text_frame(b"3probe")


def open_frame(handshake: bytes) -> bytes:
    """The OPEN packet with the JSON ``handshake``."""
    return text_frame(b"0" + handshake)


def message_frame(data: Packet) -> bytes:
    """The MESSAGE packet with ``data``, as the WebSocket frame that carries it."""
    return text_frame(b"4" + data.encode()) if isinstance(data, str) else binary_frame(data)


def decode_payload(body: bytes) -> Iterator[Packet]:
    """The packets in a long-polling body, one by one: it may hold one for every two bytes.

    Raises:
        ValueError: what follows is not a packet.
    """
    start = 0
    while (end := body.find(SEPARATOR, start)) >= 0:
        yield _decode_packet(body[start:end])
        start = end + 1
    yield _decode_packet(body[start:])


def _decode_packet(part: bytes) -> Packet:
    return decode_base64(part[1:]) if part[:1] == b"b" else part.decode()


def decode_base64(data: Packet) -> bytes:
    """The binary message in what follows the ``b`` of a packet that is text. Raises ValueError."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def in_base64(frames: bytes) -> bytes:
    """Frames for a client that takes text alone: their binary messages in base64."""
    return b"".join(text_frame(_encode_packet(opcode, payload)) for opcode, payload in payloads_of(frames))


def encode_payload(frames: bytes) -> bytes:
    """The long-polling payload of packets that are given as their WebSocket frames."""
    return SEPARATOR.join(itertools.starmap(_encode_packet, payloads_of(frames)))


def _encode_packet(opcode: int, payload: bytes) -> bytes:
    return payload if opcode == Opcode.TEXT else b"b" + base64.b64encode(payload)
