"""The memory that all clients together may take: what was read of them and is no whole message yet, and what was
written to them and has not left.

Who holds little is not counted. Who holds more is counted as it grows; that it has less again is noticed when somebody
asks, so that nobody pays for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Final, Protocol

from gateway.servers.pauses import Pausable, Pause

COUNTED_FROM: Final = 4096
"""Bytes from which on a client is worth counting."""

GRACE: Final = 0.5
"""Seconds that those who are paused have to become less, before they are cut."""

RELIEVED: Final = 0.8
"""The part of the budget to which those who hold the most bring it back."""

EXCEEDED: Final = 1.1
"""The part of the budget at which nobody waits any longer."""

STEP: Final = 0.05
"""The part of the budget by which what is held must have grown to be looked at again."""

logger = logging.getLogger(__name__)


class Holder(Pausable, Protocol):
    """What takes memory for a client. It is paused for `Pause.MEMORY`."""

    def held(self) -> int:
        """Bytes that it takes now."""

    def cut(self) -> None:
        """Drop the client, and all that is held for it."""


class Budget:
    """What all holders together may take, in bytes. Beyond it those who hold the most are paused, then cut."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        """What is held, or was when it was last looked at."""
        self._look_at: float = limit
        """The total at which to look again at what all hold: that takes a while, where there are many."""
        self._held: dict[Holder, int] = {}
        self._held_back: list[Holder] = []
        self._due: asyncio.TimerHandle | None = None

    def count(self, holder: Holder) -> None:
        """Look at what ``holder`` takes: to be called when it has become much."""
        size = holder.held()
        self.total += size - self._held.get(holder, 0)
        self._held[holder] = size
        if self.total > self._look_at:
            self._relieve()

    def forget(self, holder: Holder) -> None:
        """``holder`` takes nothing any more."""
        self.total -= self._held.pop(holder, 0)

    def _recount(self) -> None:
        self._held = {holder: size for holder in self._held if (size := holder.held()) > COUNTED_FROM}
        self.total = sum(self._held.values())
        self._look_at = max(self.limit, self.total + self.limit * STEP)

    def _relieve(self) -> None:
        """Pause who holds the most; cut where that was not enough, or comes too late."""
        self._recount()
        if self.total > self.limit * EXCEEDED:
            self._cut()
        elif self.total > self.limit and self._due is None:
            self._held_back = self._largest()
            for holder in self._held_back:
                holder.pause(Pause.MEMORY)
            self._due = asyncio.get_running_loop().call_later(GRACE, self._check)

    def _largest(self) -> list[Holder]:
        """Those who hold the most, without whom the rest is little enough."""
        total, chosen = self.total, []
        for holder, size in sorted(self._held.items(), key=lambda item: item[1], reverse=True):
            if total <= self.limit * RELIEVED:
                break
            chosen.append(holder)
            total -= size
        return chosen

    def _check(self) -> None:
        self._due = None
        self._recount()
        if self.total > self.limit * RELIEVED:
            self._cut()
        held_back, self._held_back = self._held_back, []
        for holder in held_back:
            holder.resume(Pause.MEMORY)

    def _cut(self) -> None:
        largest = self._largest()
        sizes = [self._held[holder] for holder in largest]
        logger.warning(
            "cut those who held the most memory",
            extra={
                "clients": len(largest),
                "held": sum(sizes),
                "largest": max(sizes),
                "all_held": self.total,
                "max_memory": self.limit,
            },
        )
        for holder in largest:
            self.forget(holder)
            holder.cut()


UNLIMITED: Final = Budget(2**63)
"""For whoever sets no limit."""


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can have: the machine's, or what its control group (Linux) leaves it of that."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _limit_files(root):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" is none
            sizes.append(int(text))
    return min(size for size in sizes if size > 0)


def _limit_files(root: Path) -> list[Path]:
    """Where the limits of the process's control group, and of those around it, are (version 2, and 1)."""
    files = [root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory/memory.limit_in_bytes"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in {"", "memory"}:
            base, name = (
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("sys/fs/cgroup", "memory.max")
            )
            inner = root / base / group.lstrip("/")
            files += [folder / name for folder in (inner, *inner.parents) if (root / base) in folder.parents]
    return files
