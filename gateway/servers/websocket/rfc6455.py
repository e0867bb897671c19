"""The WebSocket protocol (RFC 6455) as plain calls: bytes in, messages out; messages in, frames out. No I/O here.

Extensions are never negotiated, so that a frame that goes out is the same for all who read it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.servers.hooks import mask as apply_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

FRAGMENT_SIZE: Final = 64
"""A message may come in as many fragments as it would have were each this long, and in 1,024 in any case."""

WHOLE_MESSAGES: Final = (0x81, 0x82)
"""How the frame of a message in one piece begins, text or binary: most do."""

FEW_BYTES: Final = 1024
"""Bytes up to which copying is faster than making a bytearray."""


class Opcode(IntEnum):
    """Section 5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Section 7.4.1, as far as the gateway sends them or gives them a meaning."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009


class ProtocolError(Exception):
    """What the peer sent breaks the protocol; the connection is to be closed with ``code``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Message(NamedTuple):
    """A whole data message, or a control frame. ``data`` of a text message is valid UTF-8."""

    opcode: int
    data: bytes


class HandshakeError(ValueError):
    """What a client sent cannot be accepted as a handshake; the message says what is wrong with it."""


class UpgradeRequired(HandshakeError):
    """It does not ask for a WebSocket, or for another version than `VERSION` (RFC 9110, section 15.5.22)."""


VERSION: Final = "13"
"""The version of the protocol (section 4.1)."""

HANDSHAKE_HEADERS: Final = (
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
)
"""What is read of a handshake. All but the key are lists, each in one line or in several (RFC 9110, section 5.3)."""

_SUBPROTOCOL: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def accept_key(headers: Mapping[str, str]) -> str:
    """The ``Sec-WebSocket-Accept`` in the reply to a client's handshake (section 4.2). ``headers``: those of
    `HANDSHAKE_HEADERS` that the client has sent; the lines of one are joined by commas.

    Raises:
        HandshakeError: it is not a handshake; the message says what is missing.
    """
    if "websocket" not in _tokens(headers.get("Upgrade", "")):
        raise UpgradeRequired("the header Upgrade must contain websocket")
    if "upgrade" not in _tokens(headers.get("Connection", "")):
        raise UpgradeRequired("the header Connection must contain Upgrade")
    if VERSION not in _tokens(headers.get("Sec-WebSocket-Version", "")):
        raise UpgradeRequired(f"the header Sec-WebSocket-Version must be {VERSION}")
    key = headers.get("Sec-WebSocket-Key", "").strip()
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise HandshakeError("there must be one header Sec-WebSocket-Key, of 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


def subprotocol(headers: Mapping[str, str]) -> str | None:
    """The first of the subprotocols that a client offers, as Node's servers take it; None where it offers none.

    Raises:
        HandshakeError: the list is empty, or has an entry twice or not a token (section 4.1, item 10).
    """
    header = headers.get("Sec-WebSocket-Protocol")
    if header is None:
        return None
    offered = [entry.strip(" \t") for entry in header.split(",")]
    if len(set(offered)) != len(offered) or not all(map(_SUBPROTOCOL.fullmatch, offered)):
        raise HandshakeError("the header Sec-WebSocket-Protocol must be a list of different tokens")
    return offered[0]


def switching_protocols(headers: Mapping[str, str]) -> bytes:
    """The head that accepts a handshake (section 4.2.2).

    Raises:
        HandshakeError: it is not a handshake; the message says why.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(headers)}",
    ]
    if (chosen := subprotocol(headers)) is not None:
        lines.append(f"Sec-WebSocket-Protocol: {chosen}")
    return "\r\n".join([*lines, "", ""]).encode()


def is_websocket(upgrade: Iterable[str]) -> bool:
    """Whether the lines of the header ``Upgrade`` ask for a WebSocket, among others or not."""
    return "websocket" in _tokens(",".join(upgrade))


def _tokens(header: str) -> list[str]:
    """The entries of a list, in small letters."""
    return [entry.strip() for entry in header.lower().split(",")]


def frame(opcode: int, payload: bytes) -> bytes:
    """An unmasked, unfragmented frame (section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """The frame of a text message, which is UTF-8."""
    return frame(Opcode.TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """The frame of a binary message."""
    return frame(Opcode.BINARY, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame (section 5.5.1)."""
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode())


def payloads_of(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each of the frames that `frame` has made."""
    start = 0
    while start < len(frames):
        opcode, length = frames[start] & 0x0F, frames[start + 1]
        start += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(frames[start : start + size], "big")
            start += size
        yield opcode, frames[start : start + length]
        start += length


def close_code(data: bytes) -> int:
    """The status code in the payload of a close frame (section 7.1.5).

    Raises:
        ProtocolError: the payload is not one that a peer may send.
    """
    if not data:
        return CloseCode.NO_STATUS
    code = int.from_bytes(data[:2], "big")
    if len(data) == 1 or not (code in _SENT_CODES or 3000 <= code < 5000):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "invalid close code")
    _check_text(data[2:])
    return code


_SENT_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Codes below 3000 that may be in a frame (section 7.4.1 and the IANA registry)."""


class Parser:
    """Turns what a client sends into messages, one at a time, so that reading can stop between any two."""

    __slots__ = ("_fragments", "_max_fragments", "_max_size", "_message", "_opcode", "_unparsed")

    def __init__(self, max_size: int) -> None:
        """``max_size``: bytes in a message, at most."""
        self._max_size = max_size
        self._max_fragments = max(1024, max_size // FRAGMENT_SIZE)
        self._unparsed: bytes | bytearray = b""
        self._message: bytearray | None = None
        self._opcode = 0
        self._fragments = 0

    @property
    def pending(self) -> int:
        """Bytes that were fed and are not a whole message yet."""
        return len(self._unparsed) + (0 if self._message is None else len(self._message))

    def drop(self) -> None:
        """Drop what is not a whole message: nothing more is read."""
        self._unparsed, self._message = b"", None

    def feed(self, data: bytes) -> None:
        """Take bytes from the network. Call `next_message` until there is none."""
        unparsed = self._unparsed
        if not unparsed:
            self._unparsed = data
        elif type(unparsed) is bytearray:
            unparsed += data
        else:
            self._unparsed = bytearray(unparsed) + data

    def next_message(self) -> Message | None:
        """The next message, or None where it is not complete yet.

        Raises:
            ProtocolError: the client broke the protocol; nothing more can be read from it.
        """
        while True:
            data = self._unparsed
            if len(data) < 2:
                return None
            first, second = data[0], data[1]
            opcode = first & 0x0F
            length = second & 0x7F
            start = 2
            if length == 126:
                start, length = 4, int.from_bytes(data[2:4], "big")
            elif length == 127:
                start, length = 10, int.from_bytes(data[2:10], "big")
            # What is wrong with a header is reported as soon as the header is here, not after its payload.
            whole = first in WHOLE_MESSAGES and second & 0x80 and self._message is None
            if not whole:
                self._check_header(first, second, opcode)
            if len(data) < start:
                return None
            self._check_length(opcode, length)
            end = start + 4 + length
            if len(data) < end:
                if type(data) is bytes:
                    self._unparsed = bytearray(data)
                return None
            payload = unmask(data[start + 4 : end], data[start : start + 4])
            self._skip(data, end)
            message = _data_message(opcode, payload) if whole else self._take(first & 0x80, opcode, payload)
            if message is not None:
                return message

    def _skip(self, data: bytes | bytearray, end: int) -> None:
        if type(data) is bytearray:
            del data[:end]
        elif len(data) == end:
            self._unparsed = b""
        else:
            rest = data[end:]
            # Of bytes, each frame would copy all that follows it; a bytearray just begins later.
            self._unparsed = rest if len(rest) < FEW_BYTES else bytearray(rest)

    def _check_header(self, first: int, second: int, opcode: int) -> None:
        if first & 0x70:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "reserved bits without an extension")
        if opcode not in _OPCODES:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        if not second & 0x80:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a client's frame must be masked")
        if opcode >= Opcode.CLOSE:
            if not first & 0x80:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a fragmented control frame")
            if second & 0x7F > 125:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        elif opcode == Opcode.CONTINUATION and self._message is None:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "nothing to continue")
        elif opcode != Opcode.CONTINUATION and self._message is not None:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a message inside another")

    def _check_length(self, opcode: int, length: int) -> None:
        if opcode < Opcode.CLOSE:
            before = 0 if self._message is None else len(self._message)
            if before + length > self._max_size:
                raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, f"at most {self._max_size} bytes")

    def _take(self, final: int, opcode: int, payload: bytes) -> Message | None:
        if opcode >= Opcode.CLOSE:
            return Message(opcode, payload)
        message = self._message
        if message is None:
            if final:
                return _data_message(opcode, payload)
            self._opcode, self._fragments, self._message = opcode, 1, bytearray(payload)
            return None
        message += payload
        self._fragments += 1
        if final:
            self._message = None
            return _data_message(self._opcode, bytes(message))
        if self._fragments > self._max_fragments:
            raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        return None


_OPCODES: Final = frozenset(Opcode)


def unmask(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    """Undo a client's masking (section 5.3)."""
    data = bytearray(payload)
    apply_mask(bytes(mask), data)
    return bytes(data)


def _data_message(opcode: int, payload: bytes) -> Message:
    if opcode == 1 and not payload.isascii():
        _check_text(payload)
    return Message(opcode, payload)


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_DATA, "text must be UTF-8") from None
