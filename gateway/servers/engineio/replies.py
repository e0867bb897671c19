"""The replies of an Engine.IO server to HTTP requests, and the sentences with which it refuses some."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson
from aiohttp import web

from gateway.servers.engineio.polling import PollingResponse
from gateway.servers.http.compression import compress
from gateway.servers.http.crossorigin import CrossOrigin
from gateway.servers.http.crossorigin import Options as CrossOriginOptions
from gateway.servers.notices import Notice
from gateway.servers.websocket.rfc6455 import VERSION, UpgradeRequired

if TYPE_CHECKING:
    from gateway.servers.engineio.polling import Polling

PROTOCOL: Final = "4"
"""The version of Engine.IO that is spoken here: the parameter ``EIO``."""

UPDATE_CLIENT: Final = "socket.io-client 3 or 4, or another library for Socket.IO 3 or later, connects"

logger = logging.getLogger(__name__)

ERRORS: Final = {
    "transport": (0, "Transport unknown", 400),
    "session": (1, "Session ID unknown", 400),
    "method": (2, "Bad handshake method", 400),
    "request": (3, "Bad request", 400),
    "forbidden": (4, "Forbidden", 403),
    "version": (5, "Unsupported protocol version", 400),
    "stopping": (6, "Server is stopping", 503),
    "full": (7, "Server is full", 503),
}
"""Code, message and HTTP status of the replies to requests that are refused, as in the JavaScript server, which does
not have the last two.
"""


class Options(CrossOriginOptions, Protocol):
    """What is read of an ``engineio.AsyncServer``."""

    http_compression: bool
    compression_threshold: int
    """Bytes from which on a reply is compressed."""
    json: Any
    """The application's JSON module."""


class Replies:
    """Those of one server."""

    def __init__(self, options: Options, cross_origin: CrossOrigin) -> None:
        self._options = options
        self._cross_origin = cross_origin
        self._old_client = Notice(logger, "refused a client of another version of Engine.IO", UPDATE_CLIENT)

    def respond(
        self,
        request: web.Request,
        body: bytes,
        status: int = 200,
        kind: str = "text/plain",
        *,
        polling: Polling | None = None,
        poll: bool = True,
    ) -> web.Response:
        """``polling``: the client's, which is notified whether the client gets the response; ``poll``: whether this is
        the response to a poll, rather than to a body.
        """
        options: dict[str, Any] = {"body": body, "status": status, "content_type": kind, "charset": "utf-8"}
        response = web.Response(**options) if polling is None else PollingResponse(polling, poll=poll, **options)
        if status != 403:
            self._cross_origin.share(request, response)
        if self._options.http_compression and len(body) >= self._options.compression_threshold:
            compress(request, response)
        return response

    def refuse(self, request: web.Request, error: str, *, why: object = "", status: int | None = None) -> web.Response:
        """``error``: one of `ERRORS`. ``why``: details that its message does not have. ``status``: in place of that of
        the error.
        """
        code, message, usual = ERRORS[error]
        sentence = f"{message}: {why}" if why else message
        body = orjson.dumps({"code": code, "message": sentence})
        response = self.respond(request, body, status or usual, "application/json")
        if isinstance(why, UpgradeRequired):
            response.headers["Sec-WebSocket-Version"] = VERSION
        return response

    def too_large(self, request: web.Request, limit: int) -> web.Response:
        """Refuse a body of more than ``limit`` bytes."""
        error = {"code": "too_large", "message": f"A body can have at most {limit} bytes."}
        return self.respond(request, orjson.dumps({"error": error}), 413, "application/json")

    def refuse_version(self, request: web.Request) -> web.Response:
        """Refuse a client of another version of Engine.IO, and log that for the operator."""
        version = request.query.get("EIO")
        version_sent = "no EIO in the URL" if version is None else f"EIO={_printable(version[:10])}"
        self._old_client.give(client=version_sent, user_agent=_printable(request.headers.get("User-Agent", "")[:100]))
        why = f"{version_sent}, but this server speaks EIO={PROTOCOL}, as socket.io-client does from 3.0 on"
        return self.refuse(request, "version", why=why)

    def unauthorized(self, request: web.Request, reason: Any) -> web.Response:
        """The application refused the client; ``reason`` is what its handler returned."""
        body = self._options.json.dumps(reason or "Unauthorized", separators=(",", ":"))
        return self.respond(request, body.encode(), 401, "application/json")


def _printable(text: str) -> str:
    """What a client has written, for replies and for the log: with an escape for all that is not ASCII."""
    return ascii(text)[1:-1]
