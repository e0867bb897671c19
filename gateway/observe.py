"""Observing what happens in the gateway: for metrics, traces or an audit log.

Each method is called from one place, on the event loop; it must neither wait nor raise. Durations are in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.access.actors import Actor


class Observer(Protocol):
    def connected(self, wire: str) -> None:
        """A client has logged in. Called by `Sessions`, which every wire calls."""

    def disconnected(self, wire: str) -> None:
        """A client that was logged in has left or lost its connection (called by `Sessions`), or its session was
        resumed on another connection (called by `Delivery`).
        """

    def performed(self, actor: Actor | None, action: object, error: str | None, duration: float) -> None:
        """An action was performed, or failed with the code ``error``. Called by `Pipeline`. ``action`` is what the
        client sent, which may be neither the name of an action nor a string.
        """

    def committed(self, operations: int, duration: float) -> None:
        """A batch of operations was committed, which took ``duration``. Called by the engine."""

    def delivered(self, event: str, members: int) -> None:
        """An event was to be written to that many connections. Called by `Delivery`."""


class NullObserver:
    """The `Observer` that does nothing."""

    def connected(self, wire: str) -> None:
        pass

    def disconnected(self, wire: str) -> None:
        pass

    def performed(self, actor: Actor | None, action: object, error: str | None, duration: float) -> None:
        pass

    def committed(self, operations: int, duration: float) -> None:
        pass

    def delivered(self, event: str, members: int) -> None:
        pass
