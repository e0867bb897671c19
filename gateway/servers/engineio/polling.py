"""A client on long-polling: what waits for its next poll, the poll that waits for something, and whether the client
gets the responses to its requests.

A client that died is noticed by a request whose connection is lost. aiohttp reports that only to the request's body, so
that `ConnectionWatch` stands in for the body of a poll.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from gateway.servers.budget import COUNTED_FROM
from gateway.servers.engineio.packets import NOOP, encode_payload
from gateway.servers.hooks import writer_of
from gateway.servers.http.watch import ConnectionWatch, is_lost
from gateway.servers.pauses import Pause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.servers.limits import Limits

BODY_TIMEOUT: Final = 8.0
"""How long a long-polling body may take to arrive, in seconds."""

GRACE: Final = 0.05
"""Seconds in which the next poll comes, if the client reads: it has to receive the last response first
(`backlog.Reader.grace`).
"""


class BodyTooLarge(Exception):
    """A body has more bytes than it may have."""


class BodyTimeout(Exception):
    """A body took longer than `BODY_TIMEOUT`."""


class Owner(Protocol):
    """The session that is on long-polling."""

    def describe(self) -> Mapping[str, object]:
        """Who the client is, for the log."""

    def too_slow(self) -> None:
        """Close the client, which does not poll, or does not read the responses."""

    def request_lost(self, *, poll: bool) -> None:
        """The connection of a request, ``poll`` or body, was lost before the client had its response."""

    def cut(self) -> None:
        """Close the client, and drop all that is held for it."""


class Polling:
    """The long-polling side of a session (`limits.Writable`)."""

    __slots__ = (
        "_body",
        "_frames",
        "_limits",
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

    def __init__(self, owner: Owner, limits: Limits) -> None:
        self._owner = owner
        self._limits = limits
        self._frames: list[bytes] = []
        """The packets that wait for a poll."""
        self._size = 0
        """Bytes of them."""
        self._body = 0
        """Bytes of the body that is being read, so far."""
        self._posting: asyncio.Transport | None = None
        """The connection of the body that is being read or handled."""
        self._whole = False
        """Whether all of that body was read."""
        self._moving = False
        """Whether the client goes to a WebSocket, so that no poll is to wait."""
        self.dropped = False
        """Whether what waited was dropped, and the client with it."""
        self._poll: asyncio.Future[None] | None = None
        """The poll that waits for something."""
        self._response: asyncio.Transport | None = None
        """The connection of the response that is being written."""
        self._pauses = Pause(0)
        self._resumed: asyncio.Future[None] | None = None
        """Set while a body waits to be read on; done when it may."""

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
            self._limits.wrote(self, len(frame), unsent)

    def take_all(self) -> list[bytes]:
        """The packets that wait, which do not wait any more."""
        frames, self._frames, self._size = self._frames, [], 0
        return frames

    def take_payload(self) -> bytes:
        """All that waits for the next poll; NOOP where nothing does."""
        return encode_payload(b"".join(self.take_all() or [NOOP]))

    async def poll(self, request: web.Request) -> bytes:
        """The payload for a poll, once there is one. No other poll may wait."""
        if not self._frames and not self._moving:
            self._poll = asyncio.get_running_loop().create_future()
            try:
                with ConnectionWatch(request, self._poll_lost):
                    await self._poll
            finally:
                self._poll = None
        return self.take_payload()

    def end_poll(self) -> None:
        """Have the poll that waits replied to, with what there is."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def start_moving(self) -> None:
        """The client goes to a WebSocket: no poll is to wait from now on."""
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
            self._limits.received(self)

    def body_is_whole(self) -> None:
        """All of it was read; its request is replied to, whatever becomes of the client."""
        self._whole = True

    def body_ended(self) -> None:
        """It was handled, or refused."""
        self._posting, self._body, self._whole = None, 0, False

    async def ready(self) -> None:
        """Wait while reading is paused."""
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
        """The client is not on long-polling any more. What waits can still be taken."""
        self.resume(self._pauses)
        self._limits.forget(self)

    # --- what its limits ask (`limits.Writable`)

    @property
    def grace(self) -> float:
        return GRACE

    def unsent(self) -> int:
        """Bytes that wait for a poll, and those of the last response that have not left this process."""
        return self._size + (0 if self._response is None else self._response.get_write_buffer_size())

    def describe(self) -> Mapping[str, object]:
        return self._owner.describe()

    def too_slow(self) -> None:
        self._owner.too_slow()

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
    """A response that reports when the client has it, or cannot get it any more."""

    def __init__(self, polling: Polling, *, poll: bool, **options: Any) -> None:
        """``poll``: whether it is the response to a poll, rather than to a body."""
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
