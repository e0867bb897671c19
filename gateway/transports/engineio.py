"""python-engineio's server with the holes closed that let a client hang it, grow it or lose what it sent.

It overrides private methods of python-engineio; ``tests/test_hooks.py`` fails when one of them is gone. A later
server of our own takes its place.
"""

from __future__ import annotations

import asyncio
import io
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import engineio
from aiohttp import web
from engineio import packet, payload
from engineio.async_drivers import aiohttp as driver

from gateway.errors import CloseReason, InvalidPayload, TooLarge
from gateway.tasks import TaskOwner

if TYPE_CHECKING:
    from gateway.errors import GatewayError

BODY_TIMEOUT = 20.0
"""Seconds that a long-polling body may take."""

payload.Payload.max_decode_packets = 16_384
"""Packets in one body. The stock client puts all that waits into one, so their bound is the size of the body."""

RELEASE = None
"""What python-engineio puts into a queue to end whoever reads it."""


class PacketQueue(asyncio.Queue[Any]):
    """Packets for one client; knows how many bytes they are."""

    pending_bytes = 0

    def _put(self, item: Any) -> None:
        super()._put(item)
        self.pending_bytes += packet_size(item)

    def _get(self) -> Any:
        item = super()._get()
        self.pending_bytes -= packet_size(item)
        return item


def packet_size(item: Any) -> int:
    """Bytes (of text: characters) in a packet."""
    return 0 if item is RELEASE or item.data is None else len(item.data)


class WebSocket(driver.WebSocket):  # type: ignore[misc]
    """python-engineio's wrapper of aiohttp's WebSocket, without compression, that closes on what is no packet."""

    def __init__(self, handler: Any, server: Any) -> None:
        super().__init__(handler, server)
        self.close_reason: CloseReason | None = None
        self._request: web.Request | None = None
        handler.__self__.websocket = self

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        request: web.Request = environ["aiohttp.request"]
        self._request = request
        self._sock = web.WebSocketResponse(
            max_msg_size=self.server.max_http_buffer_size + 1,  # aiohttp refuses what reaches it
            compress=False,
            timeout=5.0,
        )
        await self._sock.prepare(request)
        self.environ = environ
        await self.handler(self)
        return self._sock

    async def close(self) -> None:
        if self.close_reason is None:
            await self._sock.close()
        else:
            await self._sock.close(code=self.close_reason.code, message=self.close_reason.text.encode())

    async def wait(self) -> str | bytes:
        data: str | bytes = await super().wait()
        try:
            _check(packet.Packet(encoded_packet=data))
        except (ValueError, IndexError) as error:
            raise OSError("not an Engine.IO packet") from error
        return data

    def abort(self) -> None:
        """Drop the connection and what is unsent."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()


def _check(pkt: packet.Packet) -> None:
    """Raises ValueError where the type of a packet is none of Engine.IO v4."""
    if pkt.packet_type > packet.NOOP:
        raise ValueError(f"packet type {pkt.packet_type}")


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """An ``engineio.AsyncServer`` on aiohttp."""

    def __init__(self, **options: Any) -> None:
        super().__init__(async_mode="aiohttp", **options)
        self._async: dict[str, Any] = {
            **self._async,
            "translate_request": self._translate_request,
            "websocket": WebSocket,
        }
        self._tasks = TaskOwner()

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        sid = request.query.get("sid", "")
        if (socket := self.sockets.get(sid)) is not None and socket.closed:
            del self.sockets[sid]  # python-engineio stumbles over it
        response: web.StreamResponse = await super().handle_request(request)
        return response

    async def disconnect(self, sid: str | None = None) -> None:
        """Close one client, or all. Unlike python-engineio's, it does not wait until they fetch what is queued."""
        for socket in tuple(self.sockets.values()) if sid is None else filter(None, [self.sockets.get(sid)]):
            await socket.close(wait=False, reason=self.reason.SERVER_DISCONNECT)
            socket.queue.put_nowait(RELEASE)

    def create_queue(self, *args: Any, **kwargs: Any) -> PacketQueue:
        return PacketQueue(*args, **kwargs)

    def send_now(self, sid: str, pkt: packet.Packet) -> None:
        """Queue a packet; what is for a socket that is gone is dropped."""
        socket = self.sockets.get(sid)
        if socket is not None and not socket.closed:
            socket.queue.put_nowait(pkt)

    def unsent(self, sid: str) -> int:
        """Bytes queued for a client."""
        socket = self.sockets.get(sid)
        return 0 if socket is None else socket.queue.pending_bytes

    def release(self, sid: str) -> None:
        """Close the WebSocket of a client that is closed, when all that is queued is sent."""
        if (socket := self.sockets.get(sid)) is not None:
            socket.queue.put_nowait(RELEASE)

    def finish(self, sid: str, reason: CloseReason) -> None:
        """Send what is queued, then close."""
        socket = self.sockets.get(sid)
        if socket is None:
            return
        socket.queue.put_nowait(RELEASE)
        if (websocket := getattr(socket, "websocket", None)) is not None:
            websocket.close_reason = reason
        elif reason is CloseReason.RESTART:
            # Long-polling: nothing can be said to a client that is between two polls. It polls again and finds out.
            self._tasks.start(socket.close(wait=False, abort=True, reason=self.reason.SERVER_DISCONNECT))

    def cut(self, sid: str) -> None:
        """Drop a client and what is queued for it."""
        socket = self.sockets.get(sid)
        if socket is None:
            return
        if (websocket := getattr(socket, "websocket", None)) is not None:
            websocket.abort()
        socket.queue.put_nowait(RELEASE)
        self._tasks.start(socket.close(wait=False, abort=True, reason=self.reason.TRANSPORT_ERROR))

    async def shutdown(self) -> None:
        await super().shutdown()
        await self._tasks.close(grace=1)

    async def _translate_request(self, request: web.Request) -> dict[str, Any]:
        """Read a body whole, however many segments it comes in, and refuse what is no payload."""
        environ: dict[str, Any] = driver.translate_request(request)
        if request.method == "POST":
            body = await _read_body(request, self.max_http_buffer_size)
            try:
                for pkt in payload.Payload(encoded_payload=body.decode()).packets:
                    _check(pkt)
            except (ValueError, IndexError, KeyError):
                raise _http_error(web.HTTPBadRequest, InvalidPayload("The body is no Engine.IO payload.")) from None
            environ["wsgi.input"] = _Body(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return environ

    def _log_error_once(self, message: str, message_key: str) -> None:
        self.logger.debug(message)


class _Body(io.BytesIO):
    """A body as python-engineio reads it."""

    async def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        return super().read(size)


async def _read_body(request: web.Request, limit: int) -> bytes:
    chunks = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                chunks += chunk
                if len(chunks) > limit:
                    raise _http_error(partial(web.HTTPRequestEntityTooLarge, limit, len(chunks)), TooLarge(limit))
    except TimeoutError:
        raise _http_error(web.HTTPRequestTimeout, InvalidPayload("The body took too long.")) from None
    return bytes(chunks)


def _http_error(kind: Any, error: GatewayError) -> web.HTTPException:
    response: web.HTTPException = kind(text=web.json_response({"error": error.as_dict()}).text)
    response.content_type = "application/json"
    return response


LIBRARY_LOGGER = logging.getLogger("gateway.socketio")
