"""The other parser of the JavaScript client, socket.io-msgpack-parser, whose packets are recognised and refused."""

from __future__ import annotations

from typing import Final

MAP: Final = range(0x80, 0x90)
"""The first byte of a map of at most 15 entries: each of its packets is one, ``{type, nsp, data, …}``."""

CONNECT_ERROR: Final = 4

ADVICE: Final = "the parser of socket.io-msgpack-parser is not spoken here; connect with the client's own"


class MsgpackRefused(ValueError):
    """A packet is in MessagePack."""

    def __init__(self) -> None:
        super().__init__(ADVICE)


def is_msgpack(data: str | bytes) -> bool:
    """Whether ``data`` may be a packet of that parser."""
    return isinstance(data, bytes) and data[:1] != b"" and data[0] in MAP and b"\xa4type" in data


def _text(text: str) -> bytes:
    """A string of at most 255 bytes."""
    encoded = text.encode()
    head = bytes((0xA0 | len(encoded),)) if len(encoded) < 32 else bytes((0xD9, len(encoded)))
    return head + encoded


def _map(**entries: bytes) -> bytes:
    return bytes((0x80 | len(entries),)) + b"".join(_text(name) + value for name, value in entries.items())


REFUSAL: Final = _map(type=bytes((CONNECT_ERROR,)), nsp=_text("/"), data=_map(message=_text(ADVICE)))
"""The packet that the client makes a ``connect_error`` of."""
