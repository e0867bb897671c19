"""A server that is one of several nodes: which of them has a session, and how requests for it get there.

Without sticky sessions, a load balancer may send each request of a client to another node. The id of a session begins
with the id of its node, so that any of them knows where a request belongs, and its `Forwarder` can pass it on.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from aiohttp import web

_NODE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Via(Enum):
    """How a request has come, and what it is."""

    CLIENT = "client"
    """From a client, or from somebody who claims to be a node."""
    NODE = "node"
    """A client's request, passed on by another node, which has checked its origin."""
    LOST = "lost"
    """A node reports that a client did not get the reply to its last request."""


class NotForwarded(Exception):
    """A request cannot be passed on. ``error``: the word of `replies.ERRORS` for its reply."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class Forwarder(Protocol):
    """The way to the other nodes."""

    @property
    def node(self) -> str:
        """The id of this node. Sessions keep that which it had when they began."""

    def via(self, request: web.BaseRequest) -> Via:
        """How a request has come."""

    async def forward(self, request: web.Request, node: str) -> web.StreamResponse:
        """Pass a request on to ``node``; returns its reply.

        Raises:
            NotForwarded: the node is gone or does not reply, or nothing more can be forwarded.
            HandshakeError: the request asks for a WebSocket, but not as RFC 6455 says.
        """

    async def close(self) -> None:
        """End all that is being forwarded, and forward nothing more."""


def sid_on(node: str, id_: str) -> str:
    """The id of a session on ``node``.

    Raises:
        ValueError: ``node`` cannot be part of it.
    """
    if _NODE.fullmatch(node) is None:
        raise ValueError(f"the id of a node must have 1 to 64 letters, digits, '-' or '_', unlike {node!r}")
    return f"{node}.{id_}"


def node_of(sid: str) -> str | None:
    """The id of the node that a session's id names; None where it names none."""
    node, dot, _ = sid.partition(".")
    return node if dot and _NODE.fullmatch(node) else None
