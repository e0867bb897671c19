"""Frames that are held until their client may get them."""

from __future__ import annotations


class Cork:
    """Holds frames in their order, up to a limit."""

    __slots__ = ("_frames", "_limit", "size")

    def __init__(self, limit: int) -> None:
        """``limit``: bytes. A frame is held whatever its size where no more than that is held before it."""
        self._limit = limit
        self._frames: list[bytes] = []
        self.size = 0
        """Bytes that are held."""

    def put(self, frames: bytes) -> bool:
        """Hold frames. Returns whether there was room for them; without it they are dropped."""
        if self.size > self._limit:
            return False
        self._frames.append(frames)
        self.size += len(frames)
        return True

    def take(self) -> list[bytes]:
        """All that is held, which is not held any more."""
        frames, self._frames, self.size = self._frames, [], 0
        return frames
