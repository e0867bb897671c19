"""The standard streams: open even if they were closed when the process started, and never blocking.

If the reader of stderr stops reading, a write to it blocks forever, and with it the whole gateway. So text for stderr
goes into a queue, from which a thread writes it. The queue is bounded: lines that do not fit are dropped and counted,
and a line in their place reports how many.
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
"""How much text may be queued, in characters: some thousands of lines."""

WRITE_SIZE: Final = 4096 if sys.platform == "linux" else 512
"""How many bytes a pipe that is ready for writing takes without blocking (PIPE_BUF)."""


def open_missing() -> None:
    """Open the null device in place of each standard stream that was closed when the process was started.

    Otherwise the next files that are opened would get their descriptors, and text for stderr would be written into a
    client's connection or into the store.
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


def print_line(line: str) -> None:
    """Write a line to stdout, unless that would block."""
    with contextlib.suppress(OSError, ValueError):
        if hasattr(select, "poll"):
            ready = select.poll()
            ready.register(1, select.POLLOUT)
            if not ready.poll(1000):
                return
        os.write(1, line.encode(errors="replace")[: WRITE_SIZE - 1] + b"\n")


class QueuedStream(io.TextIOBase):
    """A text stream to a file descriptor, on which a write never blocks: a thread does the writing."""

    def __init__(self, descriptor: int, report_dropped: Callable[[int], str], *, limit: int = MAX_PENDING) -> None:
        """``report_dropped`` returns the line that takes the place of that many dropped ones."""
        self._descriptor = descriptor
        self._report_dropped = report_dropped
        self._limit = limit
        self._changed = threading.Condition()
        self._pending: deque[str | None] = deque()
        """The text to be written, in order; None in the place of dropped lines."""
        self._size = 0
        self._dropped = 0
        """How many lines were dropped and have not been reported yet."""
        self._reporting = False
        """Whether the queue has a None in their place."""
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
        """Does nothing; `drain` waits until everything is written."""

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
        """Wait for at most ``timeout`` seconds until everything is written. Returns whether it is."""
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
        """All the text up to where lines were dropped, at once, since the thread runs rarely while the event loop is
        busy; or, at that place, no text and how many were dropped.
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
        """Write to the descriptor, however long that takes. Returns whether that was possible."""
        data = text.encode(errors="backslashreplace")
        written = 0
        while written < len(data):
            try:
                written += os.write(self._descriptor, data[written : _end_of_lines(data, written)])
            except BlockingIOError:  # another process that shares it has made it non-blocking
                select.select([], [self._descriptor], [], 1)
            except OSError:  # the reader is gone, or the disk is full
                return False
        return True


def _end_of_lines(data: bytes, start: int) -> int:
    """Where to end a write that begins at ``start``: after as many whole lines as a pipe takes in one piece, but at
    least one. So the lines of several processes do not get mixed up.
    """
    if len(data) - start <= WRITE_SIZE:
        return len(data)
    end = data.rfind(b"\n", start, start + WRITE_SIZE) + 1 or data.find(b"\n", start) + 1
    return end or len(data)
