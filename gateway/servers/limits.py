"""How much a server's clients may leave unread: each of them (`backlog`), and all of them together (`budget`).

Every transport reports here what it writes. Here it is decided that a client is too slow, and here that is logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from gateway.servers.backlog import Backlog, Client, Reader
from gateway.servers.budget import UNLIMITED, Holder

if TYPE_CHECKING:
    from gateway.servers.budget import Budget

UNBOUNDED: Final = 2**63
"""The ``max_buffer`` of a server that sets none."""

logger = logging.getLogger(__name__)


class Writable(Reader, Holder, Protocol):
    """A transport as its limits see it."""


class Limits:
    """The limits of one server."""

    def __init__(self, max_buffer: int = UNBOUNDED, budget: Budget = UNLIMITED) -> None:
        """``max_buffer``: unsent bytes at which a client that does not read is too slow."""
        self.max_buffer = max_buffer
        self.budget = budget
        self._backlogs: dict[Reader, Backlog] = {}
        """Of the transports that have had more than `max_buffer` unsent."""

    def wrote(self, transport: Writable, size: int, unsent: int) -> None:
        """``size`` bytes were written, with which ``unsent`` have not left this process. To be called after each write
        that leaves more than `budget.COUNTED_FROM`.
        """
        self.budget.count(transport)
        if unsent > self.max_buffer:
            backlog = self._backlogs.get(transport)
            if backlog is None:
                backlog = self._backlogs[transport] = Backlog(transport, self.max_buffer, self)
            backlog.wrote(size, unsent)

    def received(self, transport: Holder) -> None:
        """``transport`` holds a part of a message. To be called while that is more than `budget.COUNTED_FROM`."""
        self.budget.count(transport)

    def cut(self, client: Client, unsent: int) -> None:
        """Log that a client is too slow, and have it closed."""
        logger.info("cut a slow client", extra={**client.describe(), "unsent": unsent, "reason": "it does not read"})
        client.too_slow()

    def stop_judging(self, reader: Reader) -> None:
        """The transport is closing, which has a timeout of its own."""
        if (backlog := self._backlogs.pop(reader, None)) is not None:
            backlog.close()

    def forget(self, transport: Writable) -> None:
        """The transport is gone, and holds nothing any more."""
        self.budget.forget(transport)
        self.stop_judging(transport)


NO_LIMITS: Final = Limits()
"""For a stream whose owner sets none."""
