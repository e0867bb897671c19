"""Rate limits: how much an actor may request over time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.access.buckets import Buckets
from gateway.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.access.actors import Actor


class RateLimits:
    def __init__(self, *, rate_limit: float, add_limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``rate_limit``: actions a second for each ``rate_key``. ``add_limit``: how many users a user may add to rooms
        in a minute, over all its connections. 0 is no limit.
        """
        self._rate_limit = rate_limit
        self._add_limit = add_limit
        self._actions = Buckets(rate_limit, max(rate_limit, 1.0), clock=clock)
        self._additions = Buckets(add_limit / 60, add_limit, clock=clock)

    def check_action(self, actor: Actor, cost: float) -> None:
        """Count an action, valid or not. Raises RateLimited."""
        if self._rate_limit:
            retry_after = self._actions.take(actor.rate_key, cost)
            if retry_after:
                raise RateLimited.actions(self._rate_limit, retry_after)

    def check_additions(self, actor: Actor, users: int) -> None:
        """Count the users that an action asks to add, whether or not they can be added. Raises RateLimited."""
        if self._add_limit:
            retry_after = self._additions.take(actor.username, users)
            if retry_after:
                raise RateLimited.additions(self._add_limit, retry_after)
