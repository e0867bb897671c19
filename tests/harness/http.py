"""Plain HTTP, for requests that no WebSocket or Socket.IO client would send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from harness.inbox import TIMEOUT


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def error(self) -> dict[str, Any]:
        """The error in a body of the form `{"error": {…}}`."""
        body = json.loads(self.body)
        assert set(body) == {"error"}, body
        return dict(body["error"])


async def request(method: str, url: str, **options: Any) -> Response:
    """One request on a connection of its own; the path is sent as it is written."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as session,
        session.request(method, URL(url, encoded=True), **options) as response,
    ):
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Response(response.status, headers, await response.read())


WEBSOCKET_HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
