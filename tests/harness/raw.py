"""Socket.IO by hand over one WebSocket, to send what the stock client never would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from harness.http import request
from harness.plain import Wire, dump, websocket_url

if TYPE_CHECKING:
    from harness.plain import Frame

ENGINE = "/socket.io/?EIO=4"


class RawSocketIO(Wire):
    """Engine.IO and Socket.IO packets as text; pings get a pong."""

    def __init__(self, url: str, name: str = "raw", **options: Any) -> None:
        super().__init__(f"{websocket_url(url)}{ENGINE}&transport=websocket", name, **options)
        self.handshake: dict[str, Any] = {}
        self._ack = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        opened = await self.next_frame()
        assert isinstance(opened, str)
        assert opened.startswith("0"), opened
        self.handshake = json.loads(opened[1:])
        return self

    async def _receive(self, frame: Frame) -> None:
        if frame == "2":
            await self.socket.send("3")
        else:
            await super()._receive(frame)

    async def connect(self, auth: Any) -> str:
        """Send CONNECT with any auth; returns the packet that follows, CONNECT (40…) or CONNECT_ERROR (44…)."""
        return await self.connect_text(dump(auth))

    async def connect_text(self, auth: str) -> str:
        await self.send(f"40{auth}")
        reply = await self.frames.take(lambda frame: str(frame)[:2] in {"40", "44"}, "the reply to CONNECT")
        return str(reply)

    async def call_text(self, text: str) -> str:
        """Send an event with an ack id, its JSON given as text; returns the packet of its ack."""
        self._ack += 1
        ack = self._ack
        await self.send(f"42{ack}{text}")
        return str(await self.frames.take(lambda frame: str(frame).startswith(f"43{ack}["), f"the ack of {text[:200]}"))


async def open_polling(url: str) -> str:
    """A long-polling session; its URL."""
    opened = await request("GET", f"{url}{ENGINE}&transport=polling")
    return f"{url}{ENGINE}&transport=polling&sid={json.loads(opened.text[1:])['sid']}"
