"""Socket.IO packets as clients send them: what python-socketio's classes do not check, and the short way
past those for the events of the namespace ``/``.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import orjson
from socketio import packet

from gateway.transports.budget import COUNTED_FROM
from gateway.transports.jsonio import decode
from gateway.transports.rfc6455 import text_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transports.budget import Budget

RESERVED_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Names that a client must not send (the list of socket.io-parser 4.2)."""

MAX_ID: Final = 20
"""Digits of an ack's id; longer ones are python-socketio's business."""

MAX_ATTACHMENTS: Final = 10
"""Binary attachments in one packet (as socket.io-parser 4.2)."""

MAX_ATTACHED: Final = 1_000_000
"""Bytes in all attachments of one packet."""

ATTACHMENT_TIMEOUT: Final = 10.0
"""Seconds from a packet to the last of its attachments."""


class PacketJSON:
    """Our JSON, as the Socket.IO libraries call their JSON module."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        try:
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # what orjson is too strict for, such as an integer of more than 64 bits
            return json.dumps(value, separators=(",", ":"))

    loads = staticmethod(decode)


class Packet(packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet whose placeholders name their attachments by nothing but numbers that are there."""

    json = PacketJSON

    @classmethod
    def _reconstruct_binary_internal(cls, data: Any, attachments: list[bytes]) -> Any:
        if isinstance(data, dict) and data.get("_placeholder") is True:
            number = data.get("num")
            if type(number) is not int or not 0 <= number < len(attachments):
                raise ValueError("no such attachment")
        return super()._reconstruct_binary_internal(data, attachments)


class Incoming:
    """A packet whose attachments are on their way. A `budget.Holder`: they are cut if there is no memory for them."""

    __slots__ = ("_budget", "_drop", "_packet", "_size", "_timer")

    def __init__(self, pkt: packet.Packet, drop: Callable[[], None], budget: Budget) -> None:
        """``drop`` closes the client, which it does in `ATTACHMENT_TIMEOUT` seconds at the latest."""
        self._packet = pkt
        self._size = 0
        self._drop = drop
        self._budget = budget
        self._timer = asyncio.get_running_loop().call_later(ATTACHMENT_TIMEOUT, drop)

    def add(self, attachment: bytes) -> packet.Packet | None:
        """The packet, if this was its last attachment. Raises ValueError."""
        self._size += len(attachment)
        if self._size > MAX_ATTACHED:
            raise ValueError("the attachments are too large")
        if self._packet.add_attachment(attachment):
            return self._packet
        if self._size > COUNTED_FROM:
            self._budget.count(self)
        return None

    def cancel(self) -> None:
        self._budget.forget(self)
        self._timer.cancel()

    def held(self) -> int:
        return self._size

    def hold_back(self) -> None:
        """Its timer runs already."""

    def let_go_on(self) -> None:
        pass

    def cut(self) -> None:
        self._drop()


def ack_frame(id_: int, body: bytes) -> bytes:
    """The answer to an event of the namespace ``/``, with the JSON value ``body``; see `EngineServer.write`."""
    return text_frame(b"43%d[%b]" % (id_, body))


def read_event(data: str | bytes) -> tuple[list[Any], int | None] | None:
    """Name with arguments, and id, of an event of the namespace ``/``; None where ``data`` may be something else.

    Raises:
        ValueError: it is none.
    """
    if isinstance(data, bytes) or data[:1] != "2":
        return None
    start = data.find("[")
    id_ = data[1:start]
    if start < 1 or (id_ and not (id_.isascii() and id_.isdigit() and len(id_) < MAX_ID)):
        return None
    event = decode(data[start:])
    check_event(event)
    return event, int(id_) if id_ else None


def check_event(data: object) -> None:
    """Raises ValueError where it is no name with arguments, or the name is not for clients."""
    if not isinstance(data, list) or not data or not isinstance(data[0], str) or data[0] in RESERVED_EVENTS:
        raise ValueError("not an event")


def check_shape(pkt: packet.Packet) -> None:
    """Raises ValueError where a packet's data does not fit its type."""
    data = pkt.data
    if pkt.packet_type in {packet.EVENT, packet.BINARY_EVENT}:
        check_event(data)
    elif pkt.packet_type in {packet.ACK, packet.BINARY_ACK}:
        if not isinstance(data, list) or pkt.id is None:
            raise ValueError("not an ack")
    elif pkt.packet_type == packet.DISCONNECT:
        if data is not None:
            raise ValueError("not a disconnect")
    elif pkt.packet_type != packet.CONNECT:
        raise ValueError("not a client's packet")
