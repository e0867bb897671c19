"""Why nothing is read from a client for now."""

from __future__ import annotations

from enum import IntFlag, auto
from typing import Protocol


class Pause(IntFlag):
    """The reasons. Reading goes on when none is left."""

    HANDLING = auto()
    """As many of the client's messages are in flight as allowed (`inorder`)."""
    FAIRNESS = auto()
    """Many messages were read in one event-loop iteration: others are served first."""
    MEMORY = auto()
    """All clients together take more memory than they may (`budget`)."""


class Pausable(Protocol):
    """Where a client's messages come from."""

    def pause(self, reason: Pause) -> None:
        """Read nothing more until `resume` was called for every reason that there is."""

    def resume(self, reason: Pause) -> None:
        """This reason is gone. Does nothing if it was not one."""
