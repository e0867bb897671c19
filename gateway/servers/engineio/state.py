"""The states of an Engine.IO session, and which may follow which. `Transports` is what changes them."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class EngineState(Enum):
    """Where a session is.

    ::

        OPENING ─┬─▶ POLLING ◀──▶ PROBING ◀──▶ STRANDED
                 │                   │            │
                 │                   ▼            │
                 │               ARRIVING ◀───────┘
                 │                   │
                 └─▶ WEBSOCKET ◀─────┘          any of them ──▶ CLOSED
    """

    OPENING = auto()
    """It is on no transport yet."""
    POLLING = auto()
    PROBING = auto()
    """Still on long-polling; the client tries a WebSocket."""
    STRANDED = auto()
    """As `PROBING`, but the connection of its poll was lost: the session is closed if the upgrade fails."""
    ARRIVING = auto()
    """On a WebSocket, to which it has moved, and on which nothing was received yet."""
    WEBSOCKET = auto()
    CLOSED = auto()
    """Nothing more is taken from the client or written to it. What waits for a poll may be polled for a while."""


CHANGES: Final[dict[EngineState, set[EngineState]]] = {
    EngineState.OPENING: {EngineState.POLLING, EngineState.WEBSOCKET, EngineState.CLOSED},
    EngineState.POLLING: {EngineState.PROBING, EngineState.CLOSED},
    EngineState.PROBING: {EngineState.POLLING, EngineState.STRANDED, EngineState.ARRIVING, EngineState.CLOSED},
    EngineState.STRANDED: {EngineState.PROBING, EngineState.ARRIVING, EngineState.CLOSED},
    EngineState.ARRIVING: {EngineState.WEBSOCKET, EngineState.CLOSED},
    EngineState.WEBSOCKET: {EngineState.CLOSED},
    EngineState.CLOSED: set(),
}
