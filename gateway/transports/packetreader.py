"""Socket.IO packets as they come in, message by message: one that has attachments waits for them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from socketio import packet

from gateway.transports.budget import COUNTED_FROM
from gateway.transports.socketpackets import Packet, check_shape, read_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transports.budget import Budget

MAX_ATTACHMENTS: Final = 10
"""Binary attachments in one packet, unless an application says otherwise (as socket.io-parser 4.2)."""

MAX_ATTACHED: Final = 1_000_000
"""Bytes in all attachments of one packet, unless an application says otherwise."""

ATTACHMENT_TIMEOUT: Final = 10.0
"""Seconds from a packet to the last of its attachments."""


class Incoming:
    """A packet whose attachments are on their way. A `budget.Holder`: they are cut if there is no memory for them."""

    __slots__ = ("_budget", "_drop", "_max_size", "_packet", "_size", "_timer")

    def __init__(self, pkt: packet.Packet, drop: Callable[[], None], budget: Budget, *, max_size: int) -> None:
        """``drop`` closes the client, which it does in `ATTACHMENT_TIMEOUT` seconds at the latest. ``max_size``: bytes
        in all attachments.
        """
        self._max_size = max_size
        self._packet = pkt
        self._size = 0
        self._drop = drop
        self._budget = budget
        self._timer = asyncio.get_running_loop().call_later(ATTACHMENT_TIMEOUT, drop)

    def add(self, attachment: bytes) -> packet.Packet | None:
        """The packet, if this was its last attachment. Raises ValueError."""
        self._size += len(attachment)
        if self._size > self._max_size:
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


class PacketReader:
    """Reads what the clients of one server send."""

    def __init__(
        self,
        packet_class: type[packet.Packet],
        drop: Callable[[str], None],
        budget: Budget,
        *,
        max_attachments: int,
        max_attachments_size: int,
    ) -> None:
        """``drop`` closes a client. ``max_attachments``: binary attachments in one packet; ``max_attachments_size``:
        bytes in all of them.
        """
        self._packet_class = packet_class
        self._drop = drop
        self._budget = budget
        self._max_attachments = max_attachments
        self._max_attachments_size = max_attachments_size
        self._incoming: dict[str, Incoming] = {}

    def is_amid(self, eio_sid: str) -> bool:
        """Whether a packet of a client waits for attachments."""
        return eio_sid in self._incoming

    def read_event(self, eio_sid: str, data: str | bytes) -> tuple[list[Any], int | None] | None:
        """An event of the namespace ``/`` without a packet object; None where it may be something else, or written by
        another serializer than the default. Raises ValueError.
        """
        if self._packet_class is not Packet or eio_sid in self._incoming:
            return None
        return read_event(data)

    def read(self, eio_sid: str, data: str | bytes) -> packet.Packet | None:
        """The packet that ``data`` completes, or None. Raises, whatever a serializer does, where it is none."""
        if self._packet_class.uses_binary_events and isinstance(data, bytes):
            pkt = self._incoming[eio_sid].add(data)
            if pkt is None:
                return None
            self.drop(eio_sid)
        else:
            if eio_sid in self._incoming:
                raise ValueError("an attachment is missing")
            pkt = self._packet_class(encoded_packet=data)
        check_shape(pkt)
        if self._waits(pkt):
            self._wait(eio_sid, pkt)
            return None
        return pkt

    def _waits(self, pkt: packet.Packet) -> bool:
        """Whether attachments of a packet are to come."""
        return (
            self._packet_class.uses_binary_events
            and pkt.packet_type in {packet.BINARY_EVENT, packet.BINARY_ACK}
            and len(pkt.attachments) < pkt.attachment_count
        )

    def _wait(self, eio_sid: str, pkt: packet.Packet) -> None:
        if pkt.attachment_count > self._max_attachments:
            raise ValueError("too many attachments")
        drop = partial(self._drop, eio_sid)
        self._incoming[eio_sid] = Incoming(pkt, drop, self._budget, max_size=self._max_attachments_size)

    def drop(self, eio_sid: str) -> None:
        """Wait for no attachment of a client any more."""
        if (incoming := self._incoming.pop(eio_sid, None)) is not None:
            incoming.cancel()
