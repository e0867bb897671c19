"""A process of the supervisor: its states, and when it is started again."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from gateway.logs import get_logger
from gateway.workers.backoff import Backoff

if TYPE_CHECKING:
    import subprocess

LEAVE_LIMIT: Final = 10.0
"""How long a process that was asked to stop may take before it is killed, in seconds."""

STACKS_DELAY: Final = 1.0
"""How long a stuck process has for logging its stacks before it is killed, in seconds."""

MAX_COUNTED: Final = 1.0
"""How much of the time between two checks counts as silence, in seconds. If it was longer, then the supervisor itself
stood still, and its processes probably did, too.
"""

logger = get_logger(__name__)


class Program(Protocol):
    """What a child runs."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    @property
    def silence_limit(self) -> float | None:
        """How long its process may be silent while it serves before it is killed, in seconds; None is any time."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start a process. Raises OSError."""

    def is_heard(self) -> bool:
        """Whether the process has shown since the last call that it serves."""

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the process to stop."""

    def ended(self) -> None:
        """The process has ended: release what was kept for it."""


class State(enum.Enum):
    """What a child is doing, in the order in which it usually goes through these states."""

    WAITING = "has no process until it is due"
    STARTING = "its process has not been heard yet"
    SERVING = "its process has been heard"
    LEAVING = "its process was asked to stop"
    STUCK = "its process has been silent for too long, and will be killed"


@dataclass(frozen=True, slots=True)
class End:
    """How a process has ended."""

    asked: bool
    """Whether it was asked to stop."""
    status: int
    """Its exit status, or minus the number of the signal that killed it."""
    wait: float
    """How long it is until another one is started, in seconds."""


class Child:
    """Runs a program, and again after its process has ended. The owner calls `check` at least every second. Times are
    those of the monotonic clock, in seconds.
    """

    def __init__(self, program: Program, backoff: Backoff | None = None) -> None:
        self.program = program
        self.state = State.WAITING
        self.due = 0.0
        """When it is started, if it is waiting."""
        self.status: int | None = None
        """How its last process ended (`End.status`)."""
        self._backoff = backoff or Backoff()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._silence = 0.0
        self._kill_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return None if self._process is None else self._process.pid

    def check(self, now: float, elapsed: float) -> None:
        """Start it if it is due, and notice whether it serves. ``elapsed``: the seconds since the last call."""
        match self.state:
            case State.WAITING if now >= self.due:
                self._start(now)
            case State.STARTING if self.program.is_heard():
                self.state = State.SERVING
                logger.info("process ready", process=self.program.name, pid=self.pid)
            case State.SERVING if self.program.silence_limit is not None:
                self._check_silence(self.program.silence_limit, now, elapsed)
            case State.LEAVING | State.STUCK if now >= self._kill_at:
                self.signal(signal.SIGKILL)

    def _start(self, now: float) -> None:
        self._started, self._silence = now, 0.0
        try:
            self._process = self.program.start()
        except OSError as error:
            self.due = now + self._backoff.after(0.0)
            logger.error("a process cannot be started", process=self.program.name, error=str(error))
        else:
            self.state = State.STARTING

    def _check_silence(self, limit: float, now: float, elapsed: float) -> None:
        self._silence = 0.0 if self.program.is_heard() else self._silence + min(elapsed, MAX_COUNTED)
        if self._silence > limit:
            self.state, self._kill_at = State.STUCK, now + STACKS_DELAY
            logger.error("a process is stuck", process=self.program.name, pid=self.pid, seconds=limit)
            self.signal(signal.SIGQUIT)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def leave(self, now: float) -> None:
        """Ask the process to stop; it is killed if it does not."""
        if self._process is not None:
            self.state, self._kill_at = State.LEAVING, now + LEAVE_LIMIT
            self.program.stop(self._process)

    def reap(self, now: float) -> End | None:
        """How the process has ended since the last call, if it has. It is started again: with the next `check` if it
        was asked to stop, otherwise after a while.
        """
        if self._process is None or (status := self._process.poll()) is None:
            return None
        asked = self.state is State.LEAVING
        wait = 0.0 if asked else self._backoff.after(now - self._started)
        self._process, self.status = None, status
        self.state, self.due = State.WAITING, now + wait
        self.program.ended()
        return End(asked, status, wait)


def how(status: int) -> dict[str, int | str]:
    """How a process ended, for the log."""
    if status >= 0:
        return {"status": status}
    try:
        return {"signal": signal.Signals(-status).name}
    except ValueError:
        return {"signal": -status}
