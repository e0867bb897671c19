"""Socket.IO packets as clients send them: what python-socketio's classes do not check, and the short way
past those for the events of the namespace ``/``.
"""

from __future__ import annotations

from typing import Any, Final

from socketio import packet

from gateway.servers.jsonio import PacketJSON, check_module, decode
from gateway.servers.websocket.rfc6455 import text_frame

RESERVED_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Names that a client must not send (the list of socket.io-parser 4.2)."""

MAX_ID: Final = 20
"""Digits of an ack's id; longer ones are python-socketio's business."""


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


def packet_class(serializer: Any, json_module: Any) -> type[packet.Packet]:
    """The class for the options ``serializer`` and ``json`` of an application.

    Raises:
        ValueError: they are not supported; the message says what to do.
    """
    if serializer == "default":
        if json_module is None:
            return Packet
        check_module(json_module)
        return type("JSONPacket", (Packet,), {"json": json_module})
    if json_module is not None:
        raise ValueError("json= is for the default serializer: give the class of serializer= a JSON module of its own")
    if serializer == "msgpack":
        return _msgpack_class()
    if not isinstance(serializer, type) or not issubclass(serializer, packet.Packet):
        raise ValueError(
            f"serializer={serializer!r} is not supported: use 'default', 'msgpack', or a subclass of "
            "socketio.packet.Packet with encode() and decode() of its own"
        )
    return serializer


def _msgpack_class() -> type[packet.Packet]:
    try:
        from socketio.msgpack_packet import MsgPackPacket, msgpack  # noqa: PLC0415 - its package may not be there
    except ImportError as error:
        raise ValueError("serializer='msgpack' needs the package msgpack: pip install msgpack") from error

    class MsgPack(MsgPackPacket):  # type: ignore[misc]
        """As python-socketio's, but that ``undefined`` is None: socket.io-msgpack-parser sends it as the auth of a
        client that has none.
        """

        data: Any

        def decode(self, encoded_packet: bytes) -> None:
            super().decode(encoded_packet)
            if self.data == msgpack.ExtType(0, b"\x00"):
                self.data = None

    return MsgPack


def ack_frame(id_: int, body: bytes) -> bytes:
    """The ack of an event of the namespace ``/``, with the JSON value ``body``; see `EngineServer.write`."""
    return text_frame(b"43%d[%b]" % (id_, body))


def read_event(data: str | bytes) -> tuple[list[Any], int | None] | None:
    """Name with arguments, and id, of an event of the namespace ``/``; None where ``data`` may be something else.

    Raises:
        ValueError: it is not an event.
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
    """Raises ValueError where ``data`` is not a name with arguments, or the name is reserved."""
    if not isinstance(data, list) or not data or not isinstance(data[0], str) or data[0] in RESERVED_EVENTS:
        raise ValueError("not an event")


def check_shape(pkt: packet.Packet) -> None:
    """Raises ValueError where a packet's data does not fit its type, or where, from another serializer than the
    default, its namespace or id is something else than that.
    """
    data = pkt.data
    if not isinstance(pkt.namespace, str | None) or not isinstance(pkt.id, int | None):
        raise ValueError("not a packet")
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
