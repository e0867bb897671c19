"""Signals from outside, heard by a thread of their own: also while the event loop is stuck on a disk.

SIGTERM, SIGINT and SIGHUP stop the gateway; a second one, unless it comes with the first, ends it at once; so does the
time limit. SIGQUIT writes the stacks of all threads to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from gateway import logs

if TYPE_CHECKING:
    from collections.abc import Callable

STOP_LIMIT: Final = 9.0
"""How long a stop may take, in seconds, from the signal until it is given up: README promises ten, and the last words
in the log may take half a second.
"""

ONE_STOP: Final = 0.2
"""How long after the first signal further ones are ignored, in seconds: ``timeout`` sends two, and a process manager
often passes on a signal that the terminal has sent to all processes.
"""

STACKS_SIZE: Final = 65_536
"""The most that is read of a dump, in bytes: what a pipe holds."""

logger = logs.get_logger(__name__)


class Signals:
    """The signals that this process waits for. Made in the main thread before any other thread is started, so that all
    threads leave the signals to the one that waits.
    """

    def __init__(self) -> None:
        self._stopping: set[int] = set()
        self._heard: set[int] = set()
        if not hasattr(signal, "pthread_sigmask"):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            return
        self._stopping = {signal.SIGTERM, signal.SIGINT}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
            self._stopping.add(signal.SIGHUP)
        self._heard = {*self._stopping, signal.SIGQUIT}
        for number in self._heard:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._heard)

    def wait(self, timed_out_status: int) -> asyncio.Event:
        """Begin to wait. The event is set by the first signal to stop; the process ends with ``timed_out_status`` where
        it has not ended `STOP_LIMIT` seconds later.
        """
        stopping = asyncio.Event()
        if self._heard:
            loop = asyncio.get_running_loop()

            def stop() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: it is stopping as it is
                    loop.call_soon_threadsafe(stopping.set)

            arguments = (stop, timed_out_status)
            threading.Thread(target=self._listen, args=arguments, name="gateway-signals", daemon=True).start()
        return stopping

    def _listen(self, stop: Callable[[], None], timed_out_status: int) -> None:
        while (number := self._next()) not in self._stopping:
            log_stacks()
        first = time.monotonic()
        logger.info("stopping", signal=signal.Signals(number).name)
        timer = threading.Timer(STOP_LIMIT, _give_up, (timed_out_status,))
        timer.daemon = True
        timer.start()
        stop()
        while (number := self._next()) not in self._stopping or time.monotonic() < first + ONE_STOP:
            if number not in self._stopping:
                log_stacks()
        _end(number)

    def _next(self) -> int:
        return int(signal.sigwait(self._heard))


def _end(number: int) -> None:
    """End as the signal ends a process that does not handle it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # it is the first process of a container, which a signal does not end


def _give_up(status: int) -> None:
    logger.error("the stop took too long and is given up", seconds=STOP_LIMIT)
    log_stacks()
    logs.end_process(status)


def log_stacks() -> None:
    """Write to the log what every thread is doing."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        faulthandler.dump_traceback(writing, all_threads=True)
        stacks = os.read(reading, STACKS_SIZE)
    except OSError as error:
        logger.error("the stacks cannot be dumped", error=str(error))
    else:
        logger.warning("the stacks of all threads", stack=stacks.decode(errors="replace"))
    finally:
        os.close(reading)
        os.close(writing)
