"""How long to wait before a process that has ended is started again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST: Final = 0.25
"""The longest wait after the first end, in seconds; each further one doubles it."""

LONGEST: Final = 30.0
"""The longest wait of all, in seconds."""

STABLE: Final = 60.0
"""How long a process must have run for its end to count as the first one, in seconds."""


class Backoff:
    """The waits of one process: each is random, from half of its bound up, so that several that die of the same cause
    are not all started at once.
    """

    def __init__(self, between: Callable[[float, float], float] = random.uniform) -> None:
        """``between`` returns a random number between two."""
        self._between = between
        self._ends = 0

    def after(self, ran: float) -> float:
        """How many seconds to wait after a process that ran for ``ran`` seconds."""
        self._ends = 1 if ran >= STABLE else self._ends + 1
        bound = LONGEST if self._ends > 16 else min(LONGEST, SHORTEST * 2 ** (self._ends - 1))
        return self._between(bound / 2, bound)
