"""A client's way from long-polling to a WebSocket (Engine.IO protocol, "Upgrade").

The client opens a WebSocket beside its polls and sends ``2probe`` there; it is sent ``3probe``, and its poll is ended,
so that it stops polling. With ``5`` it moves. Until then all that is written goes to its polls, and what waits there
moves with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from gateway.servers.deadline import Deadline
from gateway.servers.engineio.packets import PONG_PROBE
from gateway.servers.websocket.rfc6455 import CloseCode, Message, Opcode
from gateway.servers.websocket.stream import Listener, WebSocketStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.servers.limits import Limits

UPGRADE_TIMEOUT: Final = 10.0
"""How long an upgrade may take, from its WebSocket to its UPGRADE packet, in seconds (as the JavaScript server)."""


class Session(Listener, Protocol):
    """The session that is upgraded."""

    def probed(self) -> None:
        """The client's WebSocket works."""

    def move_to(self, stream: WebSocketStream) -> None:
        """The client is on the WebSocket from now on: listen to it."""

    def upgrade_failed(self) -> None:
        """The client stays on long-polling."""


class Upgrade:
    """Listens to the WebSocket of an upgrade, until the client moves to it or the upgrade fails."""

    __slots__ = ("_deadline", "_probed", "_session", "stream")

    def __init__(self, session: Session, *, max_size: int, limits: Limits) -> None:
        self.stream = WebSocketStream(self, max_size=max_size, limits=limits)
        self._session = session
        self._probed = False
        self._deadline: Deadline | None = None
        """Of the UPGRADE packet, while the session is being upgraded by this."""

    def begin(self) -> None:
        """The session is upgraded by this."""
        self._deadline = Deadline(UPGRADE_TIMEOUT, self._time_out)

    def refuse(self) -> None:
        """The session cannot be upgraded now: close the WebSocket, which is open."""
        self.stream.fail(CloseCode.PROTOCOL_ERROR, "the session is not to be upgraded")

    def _time_out(self) -> None:
        self._end()
        self.stream.close(CloseCode.PROTOCOL_ERROR)

    def _end(self) -> None:
        """It has failed."""
        if self._stop():
            self._session.upgrade_failed()

    def _stop(self) -> bool:
        """Cancel the deadline; returns whether there was one."""
        deadline, self._deadline = self._deadline, None
        if deadline is None:
            return False
        deadline.cancel()
        return True

    # --- a `Listener`

    def message_received(self, message: Message) -> None:
        if message == (Opcode.TEXT, b"2probe") and not self._probed:
            self._probed = True
            self.stream.write(PONG_PROBE)
            self._session.probed()
        elif message == (Opcode.TEXT, b"5") and self._probed:
            if self._stop():
                self._session.move_to(self.stream)
        else:
            self._end()
            self.stream.fail(CloseCode.PROTOCOL_ERROR)

    def pong_received(self) -> None:
        """A WebSocket pong; Engine.IO has its own."""

    def describe(self) -> Mapping[str, object]:
        return self._session.describe()

    def too_slow(self) -> None:
        self.stream.abort()

    def stream_ended(self, code: int) -> None:
        self._end()
