"""Signals, received by a thread of their own, so that they work even while the event loop is blocked by a disk.

SIGTERM, SIGINT and SIGHUP shut the gateway down. A second one, unless it arrives together with the first, ends the
process at once, and so does the time limit. SIGQUIT logs the stacks of all threads. SIGUSR1 restarts the workers of a
supervisor, and does nothing to a gateway that has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

from gateway import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

STOP_LIMIT: Final = 9.0
"""How long the shutdown may take before the process is ended, in seconds: README promises ten, and writing the last log
lines may take half a second.
"""

EXIT_INCOMPLETE: Final = 3
"""The exit status of an incomplete shutdown; the log has the reason."""

REPEAT_WINDOW: Final = 0.2
"""For how many seconds after the first signal further ones are ignored: ``timeout`` sends two, and a process manager
often forwards a signal that the terminal has sent to all processes.
"""

MAX_STACKS_SIZE: Final = 65_536
"""How much of a stack dump is logged, in bytes: the capacity of a pipe."""

logger = logs.get_logger(__name__)


class Signals:
    """The signals that this process waits for. To be created in the main thread before any other thread is started, so
    that all threads inherit the blocked signals and only the one that waits receives them.
    """

    def __init__(self, also: Collection[int] = ()) -> None:
        """``also``: signals that are awaited besides those that are described above."""
        self.stopping: set[int] = set()
        """Those that shut the gateway down."""
        self._awaited: set[int] = set()
        if not hasattr(signal, "pthread_sigmask"):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            return
        self.stopping = {signal.SIGTERM, signal.SIGINT}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            self.stopping.add(signal.SIGHUP)
        self._awaited = {*self.stopping, signal.SIGQUIT, signal.SIGUSR1, *also}
        for number in self._awaited:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)

    def wait(self, timed_out_status: int) -> asyncio.Event:
        """Begin to wait. The event is set by the first signal to stop. If the process is still running
        `STOP_LIMIT` seconds later, it is ended with ``timed_out_status``.
        """
        stopping = asyncio.Event()
        if self._awaited:
            loop = asyncio.get_running_loop()

            def stop() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process is already ending
                    loop.call_soon_threadsafe(stopping.set)

            arguments = (stop, timed_out_status)
            threading.Thread(target=self._listen, args=arguments, name="gateway-signals", daemon=True).start()
        return stopping

    def _listen(self, stop: Callable[[], None], timed_out_status: int) -> None:
        while (number := self._next()) not in self.stopping:
            _handle(number)
        first = time.monotonic()
        logger.info("stopping", signal=signal.Signals(number).name)
        timer = threading.Timer(STOP_LIMIT, _time_out, (timed_out_status,))
        timer.daemon = True
        timer.start()
        stop()
        while (number := self._next()) not in self.stopping or time.monotonic() < first + REPEAT_WINDOW:
            if number not in self.stopping:
                _handle(number)
        end_by(number)

    def next(self, timeout: float) -> int | None:
        """The next signal, if one comes within ``timeout`` seconds: for a process without an event loop (Linux)."""
        received = signal.sigtimedwait(self._awaited, timeout)
        return None if received is None else received.si_signo

    def _next(self) -> int:
        return int(signal.sigwait(self._awaited))


def _handle(number: int) -> None:
    """What a signal does that does not stop the gateway."""
    if number == signal.SIGQUIT:
        log_stacks()
    else:
        logger.warning("no worker to restart", signal=signal.Signals(number).name)


def end_by(number: int) -> NoReturn:
    """End the process as the signal ends one that does not handle it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container is not ended by such a signal


def _time_out(status: int) -> None:
    logger.error("the shutdown timed out", seconds=STOP_LIMIT)
    log_stacks()
    logs.end_process(status)


def log_stacks() -> None:
    """Log the stacks of all threads."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        faulthandler.dump_traceback(writing, all_threads=True)
        stacks = os.read(reading, MAX_STACKS_SIZE)
    except OSError as error:
        logger.error("the stacks cannot be dumped", error=str(error))
    else:
        logger.warning("the stacks of all threads", stack=stacks.decode(errors="replace"))
    finally:
        os.close(reading)
        os.close(writing)
