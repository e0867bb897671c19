"""Packets whose binary attachments are on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.servers.budget import COUNTED_FROM
from gateway.servers.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from socketio import packet

    from gateway.servers.budget import Budget
    from gateway.servers.pauses import Pause

ATTACHMENT_TIMEOUT: Final = 10.0
"""Seconds from a packet to the last of its attachments."""


class Incoming:
    """A packet whose attachments are on their way (a `budget.Holder`)."""

    __slots__ = ("_budget", "_deadline", "_drop", "_max_size", "_packet", "_size")

    def __init__(self, pkt: packet.Packet, drop: Callable[[], None], budget: Budget, *, max_size: int) -> None:
        """``drop`` closes the client, which it does in `ATTACHMENT_TIMEOUT` seconds at the latest. ``max_size``: bytes
        in all attachments.
        """
        self._max_size = max_size
        self._packet = pkt
        self._size = 0
        self._drop = drop
        self._budget = budget
        self._deadline = Deadline(ATTACHMENT_TIMEOUT, drop)

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
        self._deadline.cancel()

    def held(self) -> int:
        return self._size

    def pause(self, reason: Pause) -> None:
        """Its deadline is there already."""

    def resume(self, reason: Pause) -> None:
        """It was not paused."""

    def cut(self) -> None:
        self._drop()
