"""The transports of an Engine.IO session: which it is on, from the handshake to the end, and how it is upgraded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from gateway.servers.engineio.state import CHANGES, EngineState
from gateway.servers.states import change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.servers.engineio.polling import Polling
    from gateway.servers.engineio.upgrade import Upgrade
    from gateway.servers.pauses import Pause
    from gateway.servers.websocket.stream import WebSocketStream

_CLOSED: Final = EngineState.CLOSED
_ARRIVING: Final = EngineState.ARRIVING


class Transports(ABC):
    """The base of `EngineSocket`: it alone changes the state, and knows which transport is there in which.

    On long-polling there is a `Polling`, on a WebSocket a `WebSocketStream`, and never both. Beside the `Polling` there
    may be an `Upgrade`, with a WebSocket that is not the session's yet.
    """

    __slots__ = ("_polling", "_stream", "_upgrade", "state")

    def __init__(self) -> None:
        self.state = EngineState.OPENING
        self._stream: WebSocketStream | None = None
        self._polling: Polling | None = None
        self._upgrade: Upgrade | None = None

    @abstractmethod
    def lost(self) -> None:
        """End the session: its transport is lost."""

    def _change(self, state: EngineState) -> None:
        self.state = change(CHANGES, self.state, state)

    @property
    def closed(self) -> bool:
        return self.state is _CLOSED

    @property
    def upgraded(self) -> bool:
        """Whether the client is on a WebSocket."""
        return self._stream is not None

    @property
    def polling(self) -> Polling | None:
        """Where the client's requests go, while it is on long-polling."""
        return self._polling

    def _streams(self) -> Iterator[WebSocketStream]:
        """The client's WebSocket, and that of an upgrade which has begun."""
        if self._stream is not None:
            yield self._stream
        if self._upgrade is not None:
            yield self._upgrade.stream

    def pause(self, reason: Pause) -> None:
        """Read nothing more for now (`Pausable`)."""
        if self._stream is not None:
            self._stream.pause(reason)
        elif self._polling is not None:
            self._polling.pause(reason)

    def resume(self, reason: Pause) -> None:
        if self._stream is not None:
            self._stream.resume(reason)
        elif self._polling is not None:
            self._polling.resume(reason)

    # --- the first

    def open(self, stream: WebSocketStream) -> None:
        """The session is on a WebSocket from the start."""
        self._stream = stream
        self._change(EngineState.WEBSOCKET)

    def _open_polling(self, polling: Polling) -> None:
        self._polling = polling
        self._change(EngineState.POLLING)

    # --- the requests of long-polling

    def polled(self) -> None:
        """Another poll has come, after one whose connection may have been lost."""
        if self.state is EngineState.STRANDED:
            self._change(EngineState.PROBING)

    def request_lost(self, *, poll: bool) -> None:
        """The connection of a request was lost: so is the client, unless it is on its way to a WebSocket."""
        if self.closed or self._stream is not None:
            return
        if poll and self.state is EngineState.PROBING:
            self._change(EngineState.STRANDED)
        elif not poll or self.state is not EngineState.STRANDED:
            self.lost()

    # --- from long-polling to a WebSocket (`upgrade.Session`)

    @property
    def can_upgrade(self) -> bool:
        return self.state is EngineState.POLLING

    def start_upgrade(self, upgrade: Upgrade) -> None:
        self._change(EngineState.PROBING)
        self._upgrade = upgrade
        upgrade.begin()

    def probed(self) -> None:
        """The client's WebSocket works: reply to its poll, so that it can stop polling."""
        if self._polling is not None:
            self._polling.start_moving()

    def _move(self, stream: WebSocketStream) -> list[bytes]:
        """The client is on ``stream`` from now on. Returns what still waited for a poll."""
        self._change(EngineState.ARRIVING)
        polling, self._polling, self._stream = self._polling, None, stream
        if polling is None:
            return []
        polling.end_poll()
        frames = polling.take_all()
        polling.close()
        return frames

    def client_spoke(self) -> None:
        """A packet came on the session's transport."""
        if self.state is _ARRIVING:
            self._change(EngineState.WEBSOCKET)

    def upgrade_failed(self) -> None:
        """The client goes on with long-polling, if it is still there."""
        self._upgrade = None
        if self._polling is not None:
            self._polling.stop_moving()
        if self.state is EngineState.STRANDED:
            self.lost()
        elif self.state is EngineState.PROBING:
            self._change(EngineState.POLLING)
