"""Epochs: which run of a store issued an offset, and whether it still names the same place in the log.

A **position** is a place in the order of the log. An **offset** is its name for clients: an epoch and the position. A
store begins an epoch when what it holds may not be all that clients have seen: at each opening of a file, when a
server has started again. A store that was restored from a backup, or whose server lacks the newest, assigns some
positions for the second time, but in another epoch: the earlier epoch ends where the log ended then. So an offset names
nothing if its epoch is unknown here, or if its position is beyond the end of its epoch. Any other offset names the same
events as when it was issued.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from gateway.protocol.offsets import parse_offset

if TYPE_CHECKING:
    from collections.abc import Iterable


class Epochs:
    """The epochs of a store, from the oldest that is remembered to the current one."""

    __slots__ = ("_by_name", "_firsts", "_names", "prefix")

    def __init__(self, epochs: Iterable[tuple[str, int]]) -> None:
        """``epochs``: the name of each, and the position after which it begins; at least one."""
        self._names, self._firsts = [], []
        for name, first in epochs:
            self._names.append(name)
            self._firsts.append(first)
        self._by_name = {name: number for number, name in enumerate(self._names)}
        self.prefix = f"{self._names[-1]}-"
        """What the offsets of the current epoch begin with; the position follows."""

    @property
    def current(self) -> str:
        return self._names[-1]

    def offset(self, position: int) -> str:
        """The offset of ``position``: the same in every run, as long as the epoch that assigned it is remembered."""
        if position > self._firsts[-1]:
            return f"{self.prefix}{position}"
        return f"{self._names[max(bisect_left(self._firsts, position) - 1, 0)]}-{position}"

    def position(self, offset: str, newest: int) -> int | None:
        """The position that ``offset`` names, or None; ``newest`` is that of the newest event."""
        parsed = parse_offset(offset)
        number = None if parsed is None else self._by_name.get(parsed[0])
        if parsed is None or number is None:
            return None
        position = parsed[1]
        end = newest if number + 1 == len(self._firsts) else self._firsts[number + 1]
        return position if position <= end else None
