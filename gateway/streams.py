"""The standard streams of the process: there, whatever was closed at its start, and never waited for.

Who reads stderr may have stopped: then a write to it waits for ever, and with it whatever wrote. So text for stderr
goes into a queue, and a thread writes it. The queue is bounded; what does not fit is dropped, counted, and said as soon
as somebody reads again.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PENDING: Final = 1_048_576
"""How much text may wait to be written, in characters: some thousand lines."""

WRITE_SIZE: Final = 4096 if sys.platform == "linux" else 512
"""What a pipe that is ready for writing takes without waiting, in bytes (PIPE_BUF)."""


def open_missing() -> None:
    """Open the null device in the place of each standard stream that was closed when the process was started.

    Their numbers would go to the next files that are opened, and what is meant for stderr into a client's connection or
    into the store.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - it stays open


def say(line: str) -> None:
    """Write a line to stdout, unless nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        if hasattr(select, "poll"):
            ready = select.poll()
            ready.register(1, select.POLLOUT)
            if not ready.poll(1000):
                return
        os.write(1, line.encode(errors="replace")[: WRITE_SIZE - 1] + b"\n")


class QueuedStream(io.TextIOBase):
    """A text stream to a file descriptor that takes everything at once. A thread writes it down."""

    def __init__(self, descriptor: int, report_dropped: Callable[[int], str], *, limit: int = MAX_PENDING) -> None:
        """``report_dropped`` words the line that stands where so many lines are missing."""
        self._descriptor = descriptor
        self._report_dropped = report_dropped
        self._limit = limit
        self._changed = threading.Condition()
        self._pending: deque[str | None] = deque()
        """What is to be written, in order; None where lines are missing."""
        self._size = 0
        self._dropped = 0
        """How many lines were dropped and not reported yet."""
        self._reporting = False
        """Whether the place where they are missing is in the queue."""
        self._writing = False
        threading.Thread(target=self._write_pending, name="gateway-log", daemon=True).start()

    # --- a text stream

    def write(self, text: str) -> int:
        with self._changed:
            fits = self._size + len(text) <= self._limit
            if not fits:
                self._dropped += max(1, text.count("\n"))
            if self._dropped and not self._reporting:
                self._reporting = True
                self._pending.append(None)
            if fits:
                self._size += len(text)
                self._pending.append(text)
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Waits for nobody; `drain` does."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def drain(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds, at most, until all is written; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._writing, timeout)

    # --- the thread

    def _write_pending(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._pending)
                self._writing = True
                text, dropped = self._take()
            written = self._write_down(text or self._report_dropped(dropped))
            with self._changed:
                self._size -= len(text)
                if not written:
                    self._dropped += dropped or text.count("\n")

    def _take(self) -> tuple[str, int]:
        """The text up to where lines are missing, all at once: the thread is scheduled seldom while the loop is busy.
        Or, at that place, no text and how many they are.
        """
        texts = []
        while self._pending and (text := self._pending[0]) is not None:
            texts.append(text)
            self._pending.popleft()
        if texts:
            return "".join(texts), 0
        self._pending.popleft()
        self._reporting = False
        dropped, self._dropped = self._dropped, 0
        return "", dropped

    def _write_down(self, text: str) -> bool:
        """Write to the descriptor, however long that takes; whether it could be written."""
        data = memoryview(text.encode(errors="backslashreplace"))
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody who shares it has made it so
                select.select([], [self._descriptor], [], 1)
            except OSError:  # nobody can read it any more, or the disk that it is on is full
                return False
        return True
