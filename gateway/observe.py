"""What happens in the gateway, for whoever wants to count it: metrics, traces, an audit log.

Each method is called in one place, on the event loop, and may neither wait nor raise. Durations are in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.access.actors import Actor


class Observer(Protocol):
    def connected(self, wire: str) -> None:
        """A client has logged in (by the wires)."""

    def disconnected(self, wire: str) -> None:
        """A client that was logged in is gone (by the wires)."""

    def performed(self, actor: Actor | None, action: object, error: str | None, duration: float) -> None:
        """An action was done, or refused with the code ``error`` (by the pipeline). ``action`` is what the client sent:
        it may be the name of no action, or no name at all.
        """

    def committed(self, operations: int, duration: float) -> None:
        """A batch of operations is on disk, ``duration`` after it was begun (by the store's commits)."""

    def delivered(self, event: str, members: int) -> None:
        """An event was written to as many connections (by the delivery)."""


class NullObserver:
    """Notes nothing."""

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
