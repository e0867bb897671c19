"""Reading is paused for reasons, and goes on when none is left, on each transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.servers.engineio.polling import Polling
from gateway.servers.limits import NO_LIMITS
from gateway.servers.pauses import Pausable, Pause
from gateway.servers.websocket.rfc6455 import Message, Opcode
from gateway.servers.websocket.stream import WebSocketStream
from hostile.attack import message

pytestmark = pytest.mark.fast

OTHERS = {Pause.HANDLING: Pause.MEMORY, Pause.MEMORY: Pause.HANDLING}


class Owner:
    """The owner of a `Polling`, and the `Listener` of a stream."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def message_received(self, message: Message) -> None:
        assert message.opcode == Opcode.TEXT
        self.received.append(message.data)

    def pong_received(self) -> None: ...
    def stream_ended(self, code: int) -> None: ...
    def too_slow(self) -> None: ...
    def request_lost(self, *, poll: bool) -> None: ...
    def cut(self) -> None: ...

    def describe(self) -> dict[str, object]:
        return {}


class OnPolling:
    """A long-polling client, of whose body the next part is to be read."""

    def __init__(self) -> None:
        self.source: Pausable = Polling(Owner(), NO_LIMITS)

    async def reads(self) -> bool:
        assert isinstance(self.source, Polling)
        try:
            async with asyncio.timeout(0.05):
                await self.source.ready()
        except TimeoutError:
            return False
        return True


class OnWebSocket:
    """A client on a WebSocket, that sends a message."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.source: Pausable = WebSocketStream(self.owner, max_size=1000)

    async def reads(self) -> bool:
        assert isinstance(self.source, WebSocketStream)
        before = len(self.owner.received)
        self.source.data_received(message("x"))
        return len(self.owner.received) > before


@pytest.mark.parametrize("transport", [OnPolling, OnWebSocket])
@pytest.mark.parametrize("first", OTHERS, ids=lambda reason: reason.name)
async def test_reading_resumes_when_no_reason_to_pause_is_left(transport: type[Any], first: Pause) -> None:
    """Nothing is read until both reasons are gone."""
    client = transport()
    assert await client.reads()
    client.source.pause(Pause.HANDLING)
    client.source.pause(Pause.MEMORY)
    assert not await client.reads()
    client.source.resume(first)
    assert not await client.reads()
    client.source.resume(first)
    assert not await client.reads()
    client.source.resume(OTHERS[first])
    assert await client.reads()
