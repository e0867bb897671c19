"""Clients of the plain wire on the `websockets` library, which knows nothing of the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import contract
from harness.client import RefusedError
from harness.inbox import TIMEOUT, Event, Inbox

if TYPE_CHECKING:
    from harness.client import Action, Reply

Frame = str | bytes


def dump(payload: Any) -> str:
    return json.dumps(payload, separators=(",", ":"))


async def open_websocket(url: str, **options: Any) -> ClientConnection:
    """Shake hands; a refusal is `RefusedError` with the error in its body and the HTTP status."""
    try:
        return await connect(
            url, max_size=None, max_queue=None, ping_interval=None, proxy=None, open_timeout=TIMEOUT, **options
        )
    except InvalidStatus as refusal:
        response = refusal.response
        try:
            error = json.loads(response.body or b"")["error"]
        except (ValueError, KeyError, TypeError):
            error = {"body": response.body}
        raise RefusedError(error, response.status_code) from None


class Wire:
    """One WebSocket: frames go in and out as they are."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        self.url = url
        self.name = name
        self._options = options
        self.frames: Inbox[Frame] = Inbox(name)
        self.socket: ClientConnection
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.socket = await open_websocket(self.url, **self._options)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reader is None:
            return
        await self.drop()
        await self._reader

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                await self._receive(frame)
        except ConnectionClosed:
            pass
        finally:
            why = f"closed with {self.socket.close_code} {self.socket.close_reason!r}"
            self._closed(why)

    async def _receive(self, frame: Frame) -> None:
        self.frames.put(frame)

    def _closed(self, why: str) -> None:
        self.frames.close(why)

    async def send(self, frame: Frame) -> None:
        await self.socket.send(frame)

    async def next_frame(self) -> Frame:
        return await self.frames.take(lambda _: True, "a frame")

    async def leave(self) -> None:
        """Close with 1000 and wait for the close frame of the gateway."""
        await self.socket.close(1000)
        await self.wait_closed()

    async def drop(self) -> None:
        """Reset the TCP connection."""
        self.socket.transport.abort()
        await self.socket.wait_closed()

    async def wait_closed(self) -> int | None:
        """The close code, once the connection is closed."""
        assert self._reader is not None
        async with asyncio.timeout(TIMEOUT):
            await asyncio.shield(self._reader)
        return self.socket.close_code

    @property
    def closed(self) -> bool:
        return self._reader is not None and self._reader.done()


class BareClient(Wire):
    """The bare form, as in the older Go server."""

    def __init__(self, url: str, username: str, **options: Any) -> None:
        super().__init__(f"{websocket_url(url)}/username/{quote(username, safe='')}", username, **options)
        self.username = username

    async def echo(self, action: str, /, **payload: Any) -> None:
        """Send an action that must succeed, and see its own frame come back; earlier messages of others stay unread."""
        frame = dump({"action": action, **payload})
        await self.send(frame)
        reply = await self.frames.take(lambda reply: reply == frame or '"error"' in str(reply), f"{frame} back")
        assert reply == frame, reply

    async def refuse(self, frame: Frame) -> dict[str, Any]:
        """Send a frame that must be refused; returns the error."""
        await self.send(frame)
        reply = json.loads(await self.next_frame())
        assert set(reply) == {"error"}, reply
        return dict(reply["error"])

    async def drain(self) -> list[Frame]:
        """Make a round trip, then return every unread frame before its reply."""
        await self.send('{"action":"list-rooms","ref":"drain"}')
        last = await self.frames.take(
            lambda frame: '"ref":"drain"' in str(frame).replace(" ", ""), "the reply to list-rooms"
        )
        frames = self.frames.take_all()
        assert last not in frames
        return frames


class JsonClient(Wire):
    """The full form, `?format=json`."""

    def __init__(self, url: str, username: str, *, query: dict[str, str] | None = None, **options: Any) -> None:
        search = urlencode({"format": "json", **(query or {})})
        super().__init__(f"{websocket_url(url)}/username/{quote(username, safe='')}?{search}", username, **options)
        self.username = username
        self.events: Inbox[Event] = Inbox(username)
        self.replies: Inbox[dict[str, Any]] = Inbox(username)
        self.welcome: Event
        self._ref = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            self.welcome = await self.next_event("welcome")
        except BaseException:
            await self.__aexit__()
            raise
        assert self.frames.log, "welcome comes first"
        return self

    @property
    def pid(self) -> str:
        return str(self.welcome.fields["pid"])

    @property
    def offset(self) -> str:
        """The last offset seen, which the client sends when it comes back."""
        return next(event.offset for event in reversed(self.events.log) if event.offset is not None)

    async def _receive(self, frame: Frame) -> None:
        await super()._receive(frame)
        fields = json.loads(frame)
        name = fields.pop("event")
        if name == "reply":
            self.replies.put(fields)
        else:
            event = Event(name, fields, fields.pop("offset", None))
            contract.check_event(event.name, event.fields, event.offset)
            self.events.put(event)

    def _closed(self, why: str) -> None:
        super()._closed(why)
        self.events.close(why)
        self.replies.close(why)

    async def call(self, action: str, /, **payload: Any) -> Reply:
        return await self.call_with({"action": action, **payload})

    async def call_with(self, frame: dict[str, Any]) -> Reply:
        self._ref += 1
        ref = self._ref
        await self.send(dump({**frame, "ref": ref}))
        wanted = f"the reply to {frame}"[:300]
        reply = await self.replies.take(lambda reply: reply.get("ref", ref) == ref, wanted)
        assert "ref" in reply, f"{wanted} has no ref: {reply}"
        del reply["ref"]
        contract.check_reply(frame.get("action"), reply)
        return reply

    async def burst(self, actions: list[Action]) -> list[Reply]:
        first = self._ref + 1
        self._ref += len(actions)
        for ref, (action, payload) in enumerate(actions, first):
            await self.send(dump({"action": action, **payload, "ref": ref}))
        replies = [await self.replies.take(lambda _: True, "a reply") for _ in actions]
        assert [reply.pop("ref") for reply in replies] == list(range(first, first + len(actions)))
        for (action, _), reply in zip(actions, replies, strict=True):
            contract.check_reply(action, reply)
        return replies

    async def next_event(self, name: str) -> Event:
        return await self.events.take(lambda event: event.name == name, f"event {name}")

    async def drain(self) -> list[Event]:
        await self.call("list-rooms")
        return self.events.take_all()


def websocket_url(url: str) -> str:
    return url.replace("http", "ws", 1)
