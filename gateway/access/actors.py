"""Actors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf an action is performed, and who is the author of its events: the user of a session.

    ``rate_key``: what ``--rate-limit`` counts actions by, the id of the connection.
    """

    username: str
    rate_key: str
