"""What the supervisor gives to a worker, and how the worker reports back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from gateway.listening import Listening, UnixSocket, open_sockets
from gateway.memory import machine_memory

if TYPE_CHECKING:
    from gateway.config import Settings

VARIABLE: Final = "_CHAT_GATEWAY_WORKER"
"""The environment variable by which a process knows that it is a worker."""

LOOPBACK: Final = "127.0.0.1"
"""Where a worker listens for the others, if the gateway listens on a Unix socket alone."""

REPORT_INTERVAL: Final = 1.0
"""How often a worker reports that its event loop runs, in seconds."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The part of a worker. Files are the numbers of descriptors that it inherits."""

    number: int
    """Which worker it is, from 1."""
    workers: int
    """How many there are."""
    channel: int
    """A pipe to the supervisor. A byte means: I serve clients, and my event loop runs."""
    sockets: tuple[int, ...]
    """Bound sockets of its own (`listening.open_shared_sockets`)."""
    unix_socket: int | None
    """The Unix socket that all workers share, if there is one."""

    @property
    def files(self) -> list[int]:
        return [self.channel, *self.sockets, *([] if self.unix_socket is None else [self.unix_socket])]

    def environment(self) -> dict[str, str]:
        """The environment for the worker's process."""
        return {**os.environ, VARIABLE: json.dumps(dataclasses.asdict(self))}

    @classmethod
    def take(cls) -> Self | None:
        """That of this process, if it is a worker. The processes that it starts are not."""
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        values = json.loads(text)
        assignment = cls(**{**values, "sockets": tuple(values["sockets"])})
        for file in assignment.files:
            os.set_inheritable(file, False)
        os.set_blocking(assignment.channel, False)
        return assignment

    def share_of(self, settings: Settings) -> Settings:
        """The settings for this worker: its share of the limits that are for all workers together."""
        return dataclasses.replace(
            settings,
            max_connections=-(-settings.max_connections // self.workers),
            max_memory=max(1, (settings.max_memory or machine_memory() // 2) // self.workers),
        )

    def listening(self, settings: Settings) -> Listening:
        """What this worker listens on: what it has inherited, and a free port of its own, at which the other workers
        reach this one.

        Raises:
            ListenError: there is no free port.
        """
        sockets = [socket.socket(fileno=descriptor) for descriptor in self.sockets]
        unix = None
        if settings.unix_socket is not None and self.unix_socket is not None:
            unix = UnixSocket.inherit(settings.unix_socket, self.unix_socket)
        host = next(iter(settings.host), LOOPBACK)
        own = open_sockets([host], 0)[0]
        return Listening(sockets, unix, own, host=host, base_path=settings.base_path)

    async def report(self) -> None:
        """Report to the supervisor that clients are served, again and again, until cancelled."""
        while True:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it is stopped, or has just ended
                os.write(self.channel, b".")
            await asyncio.sleep(REPORT_INTERVAL)
