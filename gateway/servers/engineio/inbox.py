"""What a client sends: Engine.IO packets, on either transport, whose messages are handled in their order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from gateway.servers.engineio.packets import Packet, decode_base64, decode_payload
from gateway.servers.inorder import PAUSE, InOrder
from gateway.servers.pauses import Pausable
from gateway.servers.websocket.stream import MAX_AT_ONCE

if TYPE_CHECKING:
    from gateway.servers.engineio.polling import Polling


class Owner(Pausable, Protocol):
    """The session that the packets are of."""

    @property
    def closed(self) -> bool: ...

    @property
    def is_joining(self) -> bool:
        """Whether the application is deciding on the client's log-in."""

    def client_spoke(self) -> None:
        """A packet came that does not close the transport."""

    def receive(self, data: Packet) -> None:
        """Take a message. Raises ValueError where it breaks the application's protocol."""

    def pong(self) -> None:
        """The client replied to a ping."""

    def client_closed(self) -> None:
        """The client closes its transport, which does not show whether it will return."""


class Inbox(InOrder):
    """The packets of one client, and the order of what its messages ask for."""

    __slots__ = ("_owner", "heard", "left_unheard")

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner
        self.heard = False
        """Whether the client has sent anything. To learn whether it does after a certain event, reset it then."""
        self.left_unheard = False
        """Whether the client closed its transport on purpose while it was not `heard`."""

    def take(self, data: Packet) -> None:
        """Handle a packet. What follows the end of the session is ignored.

        Raises:
            ValueError: ``data`` is not a packet.
        """
        owner = self._owner
        if owner.closed:
            return
        kind = data[:1]
        if kind == "1":
            self.note_left()
            owner.client_closed()
            return
        self.heard = True
        owner.client_spoke()
        if kind == "4":
            self._receive(data[1:])
        elif isinstance(data, bytes):
            self._receive(data)
        elif kind == "3":
            owner.pong()
        elif kind == "b":
            self._receive(decode_base64(data[1:]))
        elif kind not in {"0", "2", "5", "6"}:
            raise ValueError("not an Engine.IO packet")

    def _receive(self, data: Packet) -> None:
        if not self.finishing:
            self._owner.receive(data)

    async def take_body(self, polling: Polling, body: bytes) -> None:
        """Handle the packets of a long-polling body. Returns when they are handled, but does not wait for a log-in,
        which the client may want to abandon.

        Raises:
            ValueError: ``body`` is not a payload of packets.
        """
        for number, data in enumerate(decode_payload(body), 1):
            self.take(data)
            await polling.ready()
            if number % MAX_AT_ONCE == 0:
                await asyncio.sleep(PAUSE)  # others are not to wait for a body of very many packets
        await asyncio.sleep(0)  # by then a log-in has begun
        if not self._owner.is_joining:
            await self.idle()

    def note_left(self) -> None:
        """The client closes its transport on purpose."""
        self.left_unheard = not self.heard
