"""Keeps the workers running, and the server that they share, if it is their own.

One thread does everything, in turns: it waits for a signal, which may be SIGCHLD, and looks after each child. All
signals are blocked, and received only while it waits: none can come at a wrong moment or get lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from gateway.logs import get_logger
from gateway.signals import EXIT_INCOMPLETE, REPEAT_WINDOW, end_by, log_stacks
from gateway.workers.child import Child, State, how

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gateway.signals import Signals
    from gateway.workers.child import End, Program

SIGNALS: Final = frozenset({signal.SIGCHLD, signal.SIGUSR1})
"""What the supervisor receives besides the signals that stop a gateway: SIGUSR1 restarts the workers one by one."""

CHECK_INTERVAL: Final = 1.0
"""How often the children are checked, in seconds."""

START_INTERVAL: Final = 0.05
"""The same while one of them is starting."""

WORKERS_LIMIT: Final = 9.6
"""How long the workers have to stop before they are killed, in seconds. They end by themselves after `STOP_LIMIT` and
half a second for their last log lines.
"""

SERVER_LIMIT: Final = 9.9
"""The same for their server, which is stopped after them. What it has acknowledged is on disk."""

logger = get_logger(__name__)


class StartError(Exception):
    """A process has ended before any worker served. ``status``: as `End.status`."""

    def __init__(self, program: Program, status: int) -> None:
        super().__init__(f"{program.name} ended with {status}")
        self.program = program
        self.status = status


class _StopRequested(Exception):
    """A signal that stops the gateway has come."""


class Supervisor:
    """Starts the server and the workers, restarts those that end, and stops all of them at a signal."""

    def __init__(self, signals: Signals, workers: Sequence[Program], server: Program | None = None) -> None:
        """``server`` is what the workers need: it is started before them and stopped after them."""
        self._signals = signals
        self._server = [] if server is None else [Child(server)]
        self._workers = [Child(worker) for worker in workers]
        self._checked = time.monotonic()
        self._is_starting = True
        """Until the first worker serves. A process that ends before is not started again."""
        self._started: list[Child] = []
        """The children that are to run."""
        self._to_restart: list[Child] = []
        """The workers that are still to be restarted one by one."""

    def run(self, ready: Callable[[], None]) -> int:
        """Run everything until a signal; call ``ready`` when all workers serve. Returns the exit status.

        Raises:
            StartError: the server or the first worker ended at once. Nothing is left running.
        """
        try:
            self._start()
            ready()
            while True:
                self._turn()
        except _StopRequested:
            status = self._stop()
            logger.info("stopped", status=status)
            return status
        except StartError:
            self._stop()
            raise

    def _start(self) -> None:
        """Start the server, then one worker, then the others: a wrong setting is reported once."""
        for children in (self._server, self._workers[:1]):
            self._started += children
            while not _all_serve(children):
                self._turn()
        self._is_starting = False
        self._started += self._workers[1:]
        while not _all_serve(self._workers):
            self._turn()

    def _turn(self) -> None:
        """Wait for a signal, or until something is due, and do what is to be done."""
        number = self._signals.next(self._pause())
        if number in self._signals.stopping:
            logger.info("stopping", signal=signal.Signals(number).name)
            raise _StopRequested
        self._handle(number)
        now = time.monotonic()
        self._reap(now)
        for child in self._started:
            child.check(now, now - self._checked)
        self._checked = now
        if self._to_restart and _all_serve(self._workers):
            self._to_restart.pop(0).leave(now)

    def _pause(self) -> float:
        now = time.monotonic()
        if any(child.state is State.STARTING for child in self._started):
            return START_INTERVAL
        waits = [child.due - now for child in self._started if child.state is State.WAITING]
        return max(0.0, min(CHECK_INTERVAL, *waits)) if waits else CHECK_INTERVAL

    def _handle(self, number: int | None) -> None:
        """Act on a signal that does not stop the gateway."""
        if number == signal.SIGQUIT:
            log_stacks()
            for worker in self._workers:
                if worker.state in {State.SERVING, State.LEAVING}:  # by then it does not end by it
                    worker.signal(signal.SIGQUIT)
        elif number == signal.SIGUSR1:
            logger.info("restarting the workers one by one")
            self._to_restart = list(self._workers)

    def _reap(self, now: float) -> None:
        for child in self._started:
            end = child.reap(now)
            if end is not None:
                self._report(child.program, end)
        reap_orphans([child.pid for child in self._started if child.pid is not None])

    def _report(self, program: Program, end: End) -> None:
        if end.asked:
            logger.info("process stopped", process=program.name, **how(end.status))
        elif self._is_starting:
            raise StartError(program, end.status)
        else:
            logger.warning("a process ended", process=program.name, **how(end.status), restart_in=round(end.wait, 2))

    def _stop(self) -> int:
        """Stop the workers together, then the server. Returns the exit status: 0, or `EXIT_INCOMPLETE`."""
        began = time.monotonic()
        self._is_starting = False
        workers = [worker for worker in self._workers if worker.pid is not None]
        in_time = self._end(workers, began, WORKERS_LIMIT)
        self._end(self._server, began, SERVER_LIMIT)
        # One that was still starting is ended by the signal, and had done nothing.
        complete = in_time and all(worker.status in {0, -signal.SIGTERM} for worker in workers)
        return 0 if complete else EXIT_INCOMPLETE

    def _end(self, children: Collection[Child], began: float, limit: float) -> bool:
        """Ask the children to stop, and wait until they have. Those that still run ``limit`` seconds after ``began``
        are killed. Returns whether none was. A second signal ends this process at once, and with it, all children.
        """
        for child in children:
            child.leave(began)
        in_time = True
        while any(child.pid is not None for child in children):
            left = began + limit - time.monotonic()
            if left <= 0 and in_time:
                in_time = False
                names = [child.program.name for child in children if child.pid is not None]
                logger.error("processes did not stop in time", processes=names)
                for child in children:
                    child.signal(signal.SIGKILL)
            number = self._signals.next(left if in_time else CHECK_INTERVAL)
            if number in self._signals.stopping and time.monotonic() >= began + REPEAT_WINDOW:
                end_by(number)
            self._handle(number)
            self._reap(time.monotonic())
        return in_time


def _all_serve(children: Collection[Child]) -> bool:
    return all(child.state is State.SERVING for child in children)


def reap_orphans(own: Collection[int]) -> None:
    """Reap processes that have ended and are not our ``own``: the first process of a container inherits all orphans."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
            os.waitpid(ended.si_pid, 0)
