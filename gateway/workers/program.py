"""The worker as a program of the supervisor's."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from gateway.listening import stop_listening
from gateway.workers import tether
from gateway.workers.assignment import Assignment

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Sequence

SILENCE_LIMIT: Final = 30.0
"""How long a worker may be silent before it is killed, in seconds: its event loop is stuck, and it would go on getting
its share of the new clients.
"""


class Worker:
    """Serves clients on its own ``sockets``, and on the Unix socket that all share."""

    silence_limit = SILENCE_LIMIT

    def __init__(
        self,
        command: Sequence[str],
        number: int,
        workers: int,
        sockets: Sequence[socket.socket],
        unix: socket.socket | None = None,
    ) -> None:
        """``command`` runs one gateway process; ``number``: which of how many ``workers`` it is, from 1."""
        self.name = f"worker {number}"
        self._command = command
        self._number = number
        self._workers = workers
        self._sockets = sockets
        self._unix = unix
        self._channel = -1

    def start(self) -> subprocess.Popen[bytes]:
        self._channel, channel = os.pipe()
        os.set_blocking(self._channel, False)
        assignment = Assignment(
            number=self._number,
            workers=self._workers,
            channel=channel,
            sockets=tuple(listening.fileno() for listening in self._sockets),
            unix_socket=None if self._unix is None else self._unix.fileno(),
        )
        try:
            return tether.start(self._command, files=assignment.files, environment=assignment.environment())
        except OSError:
            os.close(self._channel)
            raise
        finally:
            os.close(channel)

    def is_heard(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return os.read(self._channel, 4096) != b""
        return False

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()

    def ended(self) -> None:
        # What waits for it is reset now, and comes back to another worker.
        stop_listening(self._sockets)
        os.close(self._channel)
