"""Why a request for the plain wire is refused, in HTTP."""

from __future__ import annotations

import math

import orjson
from aiohttp import web

from gateway.errors import GatewayError, InvalidPayload, Unavailable
from gateway.servers.websocket.handshake import Handshake
from gateway.servers.websocket.rfc6455 import VERSION, HandshakeError, UpgradeRequired


class NoUpgrade(InvalidPayload):
    http_status = 426


def check_handshake(request: web.Request) -> Handshake:
    """The handshake of a request. Raises InvalidPayload."""
    try:
        return Handshake(request)
    except UpgradeRequired as error:
        raise NoUpgrade(f"This is a WebSocket; connect with ws:// or wss:// (RFC 6455): {error}.") from None
    except HandshakeError as error:
        raise InvalidPayload(f"This is not a WebSocket handshake (RFC 6455): {error}.") from None


def refuse(error: GatewayError) -> web.Response:
    """The HTTP response that says why: ``{"error": {code, message, fields?, retry_after?}}``."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = "1"
    if isinstance(error, NoUpgrade):
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": VERSION}
    return web.json_response(
        {"error": error.as_dict()},
        status=error.http_status,
        headers=headers,
        dumps=lambda value: orjson.dumps(value).decode(),
    )
