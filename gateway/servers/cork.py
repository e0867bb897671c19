"""Frames that are held until their client may get them."""

from __future__ import annotations


class Cork:
    """Holds frames in their order. It is full with more than its limit; what then still has to be added is for its
    owner to decide.
    """

    __slots__ = ("_frames", "_limit", "size")

    def __init__(self, limit: int) -> None:
        """``limit``: bytes."""
        self._limit = limit
        self._frames: list[bytes] = []
        self.size = 0
        """Bytes that are held."""

    @property
    def is_full(self) -> bool:
        return self.size > self._limit

    def add(self, frames: bytes) -> None:
        self._frames.append(frames)
        self.size += len(frames)

    def take(self) -> list[bytes]:
        """All that is held, which is not held any more."""
        frames, self._frames, self.size = self._frames, [], 0
        return frames
