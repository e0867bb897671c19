"""Messages on their way to the log: those that wait at the same time are appended by one script."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from gateway.engines.valkey.node import RETRY_AFTER
from gateway.errors import GatewayError, Unavailable
from gateway.logs import get_logger
from gateway.tasks import TaskOwner
from gateway.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.valkey.link import Argument
    from gateway.engines.valkey.node import Node

logger = get_logger(__name__)

MESSAGES_AT_ONCE: Final = 64
CHARACTERS_AT_ONCE: Final = 131_072
"""The most messages, and about the most text of them, that a script appends: the server does nothing else meanwhile."""


NO_MEMBER: Final = -1
"""The position of a message whose author is a member of no such room."""

ELSEWHERE: Final = -2
"""The position of a message whose author has no live session on this node."""


class Appended(NamedTuple):
    """What has become of a message: its id, its ``position``, its time (Unix time in ms), and which of the room's names
    is that of the room. A position of 0: it had been sent before, at that time.
    """

    id: str
    position: int
    ts: int
    spelling: int


@dataclass(frozen=True, slots=True)
class Message:
    """One that waits. ``id``: which its author chose; if it chose none, ``random`` is the random part of its id."""

    author: str
    room_names: Sequence[str]
    content: str
    id: str | None
    random: str
    outcome: asyncio.Future[Appended]

    def arguments(self) -> list[Argument]:
        """As ``scripts/append.lua`` takes them."""
        author = orjson.dumps(self.author)
        arguments: list[Argument] = [
            self.author,
            author,
            b"" if self.id is None else orjson.dumps(self.id),
            self.random,
            b',"from":%b,"content":%b,"ts":' % (author, orjson.dumps(self.content)),
            len(self.room_names),
        ]
        for name in self.room_names:
            arguments += (name, orjson.dumps(name))
        return arguments

    def resolve(self, position: int, ts: int, spelling: int) -> None:
        if not self.outcome.done():
            shown = f"{self.random}.{position}" if self.id is None else self.id
            self.outcome.set_result(Appended(shown, position, ts, spelling))

    def reject(self, error: GatewayError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class Appends:
    """Of one node. What is put during one turn of the event loop goes together."""

    def __init__(self, node: Node, policy: Policy) -> None:
        self._node = node
        self._bounds = (policy.history_size, policy.history_bytes, int(1000 * (2 * policy.recovery_window + 60)))
        self._random = tokens(6)
        self._waiting: list[Message] = []
        self._size = 0
        self._identity = ""
        """The id that the node had when the first of them came."""
        self._tasks = TaskOwner()

    def put(
        self, author: str, room_names: Sequence[str], content: str, message_id: str | None
    ) -> asyncio.Future[Appended]:
        """Raises (when awaited) Unavailable or LimitReached."""
        if self._waiting and self._identity != self._node.id:
            self._send()
        loop = asyncio.get_running_loop()
        message = Message(author, room_names, content, message_id, next(self._random), loop.create_future())
        if not self._waiting:
            self._identity = self._node.id
            loop.call_soon(self._send)
        self._waiting.append(message)
        self._size += len(content)
        if len(self._waiting) == MESSAGES_AT_ONCE or self._size > CHARACTERS_AT_ONCE:
            self._send()
        return message.outcome

    def _send(self) -> None:
        if self._waiting:
            messages, self._waiting, self._size = self._waiting, [], 0
            self._tasks.start(self._append(self._identity, messages))

    async def _append(self, node: str, messages: Sequence[Message]) -> None:
        arguments = [argument for message in messages for argument in message.arguments()]
        try:
            status, *replies = await self._node.run(
                "append", node, self._node.epochs.current, *self._bounds, *arguments
            )
        except GatewayError as error:
            _reject(messages, error)
        except Exception:
            logger.exception("messages could not be appended")
            _reject(messages, Unavailable("The store cannot do this now; try again."))
        else:
            if status == b"fenced":
                await self._node.fence(node)
                lost = Unavailable("This node lost its place in the cluster; try again.", retry_after=RETRY_AFTER)
                _reject(messages, lost)
            else:
                for message, *outcome in zip(messages, *(iter(replies),) * 3, strict=True):
                    message.resolve(*outcome)


def _reject(messages: Sequence[Message], error: GatewayError) -> None:
    for message in messages:
        message.reject(error)
