"""Why nothing is read from a client for now."""

from __future__ import annotations

from enum import IntFlag, auto
from typing import Protocol


class Pause(IntFlag):
    """The reasons. Reading goes on when none is left."""

    HANDLING = auto()
    """As many of the client's messages are in flight as may be (`inorder`)."""
    FAIRNESS = auto()
    """Others are to be served first: many were read in one event-loop iteration."""
    MEMORY = auto()
    """The memory that all clients may take together is spent (`budget`)."""


class Pausable(Protocol):
    """Where a client's messages come from."""

    def pause(self, reason: Pause) -> None:
        """Read nothing more, until `resume` was called for this reason and for all others that there are."""

    def resume(self, reason: Pause) -> None:
        """This reason is gone. Does nothing where it was none."""
