"""What a client has received and the test has not yet looked at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 30.0
"""Seconds after which something that should have arrived counts as lost. Only a failing test waits that long."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Event:
    """One event as a client sees it: its fields, and the offset if it carried one."""

    name: str
    fields: dict[str, Any]
    offset: str | None = None


class Inbox(Generic[Item]):
    """A list that can be waited on. `log` keeps everything that ever arrived, in order."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.log: list[Item] = []
        self._unread: list[Item] = []
        self._changed = asyncio.Event()
        self._closed: str | None = None

    def put(self, item: Item) -> None:
        self.log.append(item)
        self._unread.append(item)
        self._changed.set()

    def close(self, why: str) -> None:
        """Nothing more will come: every waiter is told at once."""
        self._closed = why
        self._changed.set()

    def reopen(self) -> None:
        self._closed = None

    def take_all(self) -> list[Item]:
        taken, self._unread = self._unread, []
        return taken

    async def take(self, wanted: Callable[[Item], bool], what: str) -> Item:
        """The first unread item that is `wanted`; those before it stay unread."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    for index, item in enumerate(self._unread):
                        if wanted(item):
                            return self._unread.pop(index)
                    if self._closed is not None:
                        break
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        reason = self._closed or f"nothing for {TIMEOUT:.0f} s"
        unread = str(self._unread)[:2000]
        raise AssertionError(f"{self.owner} waited for {what}: {reason}; unread: {unread}")
