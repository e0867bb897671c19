"""Names that no other test of this run uses, and the wires that most tests run on."""

from __future__ import annotations

import itertools
import os

WIRES = ("socketio-websocket", "socketio-polling", "json")
"""The wires that speak the full protocol. The second starts with long polling and upgrades while the test goes on."""

_numbers = itertools.count(1)


def fresh_name(prefix: str = "u") -> str:
    """A username, or a room, of its own: the gateway is shared by many tests."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return f"{prefix}{worker}x{next(_numbers)}"
