"""How many files the process has open: every connection is one, and when there are no more, nobody gets in.

What happens then is the event loop's: uvloop accepts and closes who comes (libuv keeps a file in reserve for that),
asyncio leaves them waiting and tries again each second. Both go on by themselves when files are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Any, Final

from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL: Final = 1.0
"""How often the files are counted, in seconds."""

QUIET: Final = 60.0
"""How long the same is not said again, in seconds."""

NEARLY: Final = 0.9
"""The part of the files that may be open without a word."""

FOLDER: Final = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), None)
"""Where the system lists the files that this process has open."""

ADVICE: Final = "Raise the limit of open files (ulimit -n, or LimitNOFILE of systemd), or lower --max-connections."

logger = get_logger(__name__)


def raise_limit() -> None:
    """Take as many files as the system allows (the usual soft limit is 1,024)."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int | None:
    """How many files may be open; None where there is no such limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def count() -> int | None:
    """How many files are open; None where the system does not tell."""
    if FOLDER is None:
        return None
    # Since Linux 6.2 the size of the folder is the number; a list of 20,000 takes milliseconds.
    return os.stat(FOLDER).st_size or len(os.listdir(FOLDER))


class FileWatch:
    """Logs when files run out, before it and while it lasts, once a minute each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}

    async def run(self) -> None:
        """Count the files again and again."""
        self._handle_errors(asyncio.get_running_loop())
        while True:
            await asyncio.sleep(INTERVAL)
            self.check()

    def check(self) -> None:
        """Count the files, and say what is to be said of them."""
        allowed = limit()
        if allowed is None:
            return
        try:
            files = count()
        except OSError as error:  # a list of the files is a file
            if error.errno == errno.EMFILE:
                self._say_that_there_are_none(allowed)
            return
        if files is None or files < NEARLY * allowed:
            return
        if files < allowed:
            self._say("files are running out", files=files, limit=allowed, advice=ADVICE)
        else:
            self._say_that_there_are_none(allowed)

    def _say_that_there_are_none(self, allowed: int | None) -> None:
        self._say("no more files can be opened: nobody can connect", limit=allowed, advice=ADVICE)

    def _say(self, event: str, **details: Any) -> None:
        now = self._clock()
        if now - self._said.get(event, -QUIET) >= QUIET:
            self._said[event] = now
            logger.warning(event, **details)

    def _handle_errors(self, loop: asyncio.AbstractEventLoop) -> None:
        """asyncio reports each attempt to accept that has failed."""

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
                self._say_that_there_are_none(limit())
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(handle)
