"""The limit of open files: every connection is a file, and when they have run out, no client can connect.

Then the event loop decides what happens: uvloop accepts new connections and closes them (libuv keeps a file descriptor
in reserve for that); asyncio leaves them in the queue and retries every second. Both recover when files are closed.
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

LOG_INTERVAL: Final = 60.0
"""The minimum time between two log lines with the same event, in seconds."""

WARNING_SHARE: Final = 0.9
"""The share of the limit from which a warning is logged."""

FOLDER: Final = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), None)
"""The folder in which the system lists the open files of this process."""

ADVICE: Final = "Raise the limit of open files (ulimit -n, or LimitNOFILE of systemd), or lower --max-connections."

logger = get_logger(__name__)


def raise_limit() -> None:
    """Raise the soft limit, usually 1,024, to the hard limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int | None:
    """How many files may be open; None if there is no limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def count() -> int | None:
    """How many files are open; None if the system does not provide that."""
    if FOLDER is None:
        return None
    # Since Linux 6.2, the size of the folder is that number. Listing 20,000 files takes milliseconds.
    return os.stat(FOLDER).st_size or len(os.listdir(FOLDER))


class FileWatch:
    """Logs when files are running out, and while there are none left; each at most once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    async def run(self) -> None:
        """Check regularly, until cancelled."""
        self._handle_errors(asyncio.get_running_loop())
        while True:
            await asyncio.sleep(INTERVAL)
            self.check()

    def check(self) -> None:
        """Count the open files, and log a warning if there are too many."""
        allowed = limit()
        if allowed is None:
            return
        try:
            files = count()
        except OSError as error:  # listing the files takes a file, too
            if error.errno == errno.EMFILE:
                self._warn_exhausted(allowed)
            return
        if files is None or files < WARNING_SHARE * allowed:
            return
        if files < allowed:
            self._warn("files are running out", files=files, limit=allowed, advice=ADVICE)
        else:
            self._warn_exhausted(allowed)

    def _warn_exhausted(self, allowed: int | None) -> None:
        self._warn("no more files can be opened: nobody can connect", limit=allowed, advice=ADVICE)

    def _warn(self, event: str, **details: Any) -> None:
        now = self._clock()
        if now - self._logged_at.get(event, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[event] = now
            logger.warning(event, **details)

    def _handle_errors(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log failures of accept() through `_warn`; asyncio reports each one to its exception handler."""

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
                self._warn_exhausted(limit())
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(handle)
