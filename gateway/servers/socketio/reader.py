"""Socket.IO packets as they come in, message by message: one that has attachments waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from socketio import packet

from gateway.servers.socketio.attachments import Incoming
from gateway.servers.socketio.packets import Packet, check_shape, read_event

if TYPE_CHECKING:
    from gateway.servers.budget import Budget
    from gateway.servers.socketio.peers import Peer

MAX_ATTACHMENTS: Final = 10
"""Binary attachments in one packet, unless an application sets another limit (as socket.io-parser 4.2)."""

MAX_ATTACHED: Final = 1_000_000
"""Bytes in all attachments of one packet, unless an application sets another limit."""


class PacketReader:
    """Reads what the clients of one server send."""

    def __init__(
        self,
        packet_class: type[packet.Packet],
        budget: Budget,
        *,
        max_attachments: int,
        max_attachments_size: int,
    ) -> None:
        """``max_attachments``: binary attachments in one packet; ``max_attachments_size``: bytes in all of them."""
        self._packet_class = packet_class
        self._budget = budget
        self._max_attachments = max_attachments
        self._max_attachments_size = max_attachments_size

    def read_event(self, peer: Peer, data: str | bytes) -> tuple[list[Any], int | None] | None:
        """An event of the namespace ``/`` without a packet object; None where it may be something else, or written by
        another serializer than the default. Raises ValueError.
        """
        if self._packet_class is not Packet or peer.incoming is not None:
            return None
        return read_event(data)

    def read(self, peer: Peer, data: str | bytes) -> packet.Packet | None:
        """The packet that ``data`` completes, or None. Raises whatever a serializer does for what is not a packet."""
        if self._packet_class.uses_binary_events and isinstance(data, bytes):
            if peer.incoming is None:
                raise ValueError("an attachment of no packet")
            pkt = peer.incoming.add(data)
            if pkt is None:
                return None
            self.drop(peer)
        else:
            if peer.incoming is not None:
                raise ValueError("an attachment is missing")
            pkt = self._packet_class(encoded_packet=data)
        check_shape(pkt)
        if self._waits(pkt):
            self._wait(peer, pkt)
            return None
        return pkt

    def _waits(self, pkt: packet.Packet) -> bool:
        """Whether attachments of a packet are to come."""
        return (
            self._packet_class.uses_binary_events
            and pkt.packet_type in {packet.BINARY_EVENT, packet.BINARY_ACK}
            and len(pkt.attachments) < pkt.attachment_count
        )

    def _wait(self, peer: Peer, pkt: packet.Packet) -> None:
        if pkt.attachment_count > self._max_attachments:
            raise ValueError("too many attachments")
        peer.incoming = Incoming(pkt, peer.socket.fail, self._budget, max_size=self._max_attachments_size)

    def drop(self, peer: Peer) -> None:
        """Wait for no attachment of a client any more."""
        incoming, peer.incoming = peer.incoming, None
        if incoming is not None:
            incoming.cancel()
