"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for an action, and is the author of what comes of it: the user of a session. The wires make it, of what
    they know of their client.

    ``rate_key`` names what ``--rate-limit`` counts by: the connection.
    """

    username: str
    rate_key: str
