"""A client on long-polling: what waits for its next poll, the poll that waits for something, and whether its requests
come to their end.

A request whose connection is lost is how a client that died is noticed: aiohttp tells nobody but who reads its body, so
that `ConnectionWatch` stands in for the body of a poll.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from gateway.servers.backlog import Backlog
from gateway.servers.budget import COUNTED_FROM
from gateway.servers.engineio.packets import NOOP, encode_payload
from gateway.servers.hooks import writer_of
from gateway.servers.http.watch import ConnectionWatch, is_lost
from gateway.servers.pauses import Pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.servers.budget import Budget

BODY_TIMEOUT: Final = 8.0
"""Seconds that a long-polling body may take."""

CHANCE: Final = 0.05
"""Seconds in which the next poll comes, if the client reads: it has to hear of the last one's end first."""


class BodyTooLarge(Exception):
    """A body has more bytes than it may have."""


class BodyTimeout(Exception):
    """A body took longer than `BODY_TIMEOUT`."""


class Owner(Protocol):
    """The session that is on long-polling."""

    def too_slow(self, unsent: int) -> None:
        """The client does not poll, or does not read the responses: it is to be cut."""

    def request_lost(self, *, poll: bool) -> None:
        """The connection of a request, ``poll`` or body, was lost before its response was there."""

    def cut(self) -> None:
        """Drop the client, and all that is held for it."""


class Polling:
    """The long-polling side of a session. A `backlog.Reader`, and a `budget.Holder`."""

    __slots__ = (
        "_backlog",
        "_body",
        "_budget",
        "_frames",
        "_max_buffer",
        "_moving",
        "_owner",
        "_pauses",
        "_poll",
        "_posting",
        "_response",
        "_resumed",
        "_size",
        "_whole",
        "dropped",
    )

    def __init__(self, owner: Owner, max_buffer: int, budget: Budget) -> None:
        self._owner = owner
        self._max_buffer = max_buffer
        self._budget = budget
        self._backlog: Backlog | None = None
        self._frames: list[bytes] = []
        self._size = 0
        self._body = 0
        self._posting: asyncio.Transport | None = None
        self._whole = False
        self._moving = False
        self.dropped = False
        """Whether what waited was dropped, and the client with it."""
        self._poll: asyncio.Future[None] | None = None
        self._response: asyncio.Transport | None = None
        self._pauses = Pause(0)
        self._resumed: asyncio.Future[None] | None = None
        """What those wait for who would read on."""

    # --- out

    @property
    def is_polled(self) -> bool:
        """Whether a poll waits."""
        return self._poll is not None

    @property
    def has_unread(self) -> bool:
        """Whether something waits for a poll."""
        return bool(self._frames)

    def write(self, frame: bytes) -> None:
        """Send a packet, given as its WebSocket frame."""
        self._frames.append(frame)
        self._size += len(frame)
        self.end_poll()
        unsent = self.unsent()
        if unsent > COUNTED_FROM:
            self._budget.count(self)
        if unsent > self._max_buffer:
            if self._backlog is None:
                self._backlog = Backlog(self, self._max_buffer, chance=CHANCE)
            self._backlog.wrote(len(frame), unsent)

    def unsent(self) -> int:
        """Bytes that wait for a poll, and those of the last response that have not left this process."""
        return self._size + (0 if self._response is None else self._response.get_write_buffer_size())

    def too_slow(self, unsent: int) -> None:
        self._owner.too_slow(unsent)

    def take_all(self) -> list[bytes]:
        """The packets that wait, which wait no more."""
        frames, self._frames, self._size = self._frames, [], 0
        return frames

    def take_payload(self) -> bytes:
        """All that waits for the next poll; NOOP where nothing does."""
        return encode_payload(b"".join(self.take_all() or [NOOP]))

    async def poll(self, request: web.Request) -> bytes:
        """The payload that answers a poll. There is no other poll."""
        if not self._frames and not self._moving:
            self._poll = asyncio.get_running_loop().create_future()
            try:
                with ConnectionWatch(request, self._poll_lost):
                    await self._poll
            finally:
                self._poll = None
        return self.take_payload()

    def end_poll(self) -> None:
        """Have the poll that waits answered, with whatever there is."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def start_moving(self) -> None:
        """The client goes to a WebSocket: no poll waits from here on."""
        self._moving = True
        self.end_poll()

    def stop_moving(self) -> None:
        self._moving = False

    def _poll_lost(self) -> None:
        self._owner.request_lost(poll=True)
        self.end_poll()

    def response_begins(self, transport: asyncio.Transport | None) -> None:
        """A response is written to ``transport``."""
        self._response = transport

    def response_ended(self, *, poll: bool, lost: bool) -> None:
        """The system has taken nearly all of a response, or its connection was ``lost`` before."""
        self._response = None
        if lost:
            self._owner.request_lost(poll=poll)

    def drop(self) -> None:
        """Drop what waits, the response that is not read, and the body that is not whole."""
        self.dropped = True
        self.take_all()
        for transport in filter(None, (self._response, None if self._whole else self._posting)):
            transport.abort()

    # --- in

    @property
    def posting(self) -> bool:
        """Whether a body is being read or handled."""
        return self._posting is not None

    def body_begins(self, transport: asyncio.Transport | None) -> None:
        """A body comes on ``transport``."""
        self._posting = transport

    def body_grows(self, size: int) -> None:
        """``size`` bytes of it were read."""
        self._body = size
        if size > COUNTED_FROM:
            self._budget.count(self)

    def body_is_whole(self) -> None:
        """All of it was read; its request is replied to, whatever becomes of the client."""
        self._whole = True

    def body_ended(self) -> None:
        """It was handled, or refused."""
        self._posting, self._body, self._whole = None, 0, False

    async def ready(self) -> None:
        """Wait while nothing is to be read from the client."""
        if self._pauses:
            if self._resumed is None:
                self._resumed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._resumed)

    def pause(self, reason: Pause) -> None:
        """Read nothing more for now (`Pausable`)."""
        self._pauses |= reason

    def resume(self, reason: Pause) -> None:
        self._pauses &= ~reason
        if not self._pauses and self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None

    def close(self) -> None:
        """The client is not on long-polling any more; what waits stays for who `take_all`."""
        self.resume(self._pauses)
        self._budget.forget(self)
        if self._backlog is not None:
            self._backlog.close()

    # --- a Holder, which is paused for its memory

    def held(self) -> int:
        return self._body + self.unsent()

    def cut(self) -> None:
        self._owner.cut()


async def read_body(request: web.Request, polling: Polling, limit: int) -> bytes:
    """The whole body of a request, however many segments it comes in.

    Raises:
        BodyTooLarge: it has more than ``limit`` bytes.
        BodyTimeout: it took longer than `BODY_TIMEOUT`.
        ConnectionError: its connection was lost.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise BodyTooLarge
                polling.body_grows(len(body))
                await polling.ready()
    except TimeoutError:
        raise BodyTimeout(f"a body must come within {BODY_TIMEOUT:g} seconds") from None
    return bytes(body)


class PollingResponse(web.Response):
    """A response that tells when the client has it, and when it cannot have it any more."""

    def __init__(self, polling: Polling, *, poll: bool, **options: Any) -> None:
        """``poll``: it answers a poll, not a body."""
        super().__init__(**options)
        self._polling = polling
        self._poll = poll
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> Any:
        self._request = request
        self._polling.response_begins(request.transport)
        with self._watching(request):
            return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        request, writer = self._request, writer_of(self)
        if request is None or writer is None:
            return
        with self._watching(request):
            await super().write_eof(data)
            await writer.drain()
            if is_lost(request):
                raise ConnectionResetError
        self._polling.response_ended(poll=self._poll, lost=False)

    @contextmanager
    def _watching(self, request: web.BaseRequest) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, asyncio.CancelledError):
            self._polling.response_ended(poll=self._poll, lost=True)
            raise
