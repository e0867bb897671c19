"""Clients that come back by themselves, and report to a `History` all they see."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import orjson
from websockets.exceptions import WebSocketException

from harness.client import RefusedError
from harness.plain import dump, open_websocket, websocket_url
from harness.proxy import reset
from harness.stock import TRANSPORTS
from soak.checker import Message

if TYPE_CHECKING:
    from random import Random

    from websockets.asyncio.client import ClientConnection

    from harness.client import Reply
    from harness.node import Driver
    from soak.checker import History

TEMPORARY = {"unavailable", "limit_reached"}
"""Refusals after which a client tries again."""

PAUSE = 0.05
"""Seconds from a failure to the next attempt."""

PAGE = 100

FAILURES = (OSError, EOFError, WebSocketException)
"""What a connection may end in before it is open."""

_numbers = itertools.count(1_000_000)


class LostError(Exception):
    """The connection went before the reply came: nobody knows whether the action was done."""


class Member(ABC):
    """A user who stays, whatever happens to its connections, and fetches what it could not recover."""

    def __init__(self, url: str, username: str, history: History, random: Random, pause: float) -> None:
        """`pause`: seconds that it waits, at most or about, before it tries to come back."""
        self.username = username
        self.rooms: list[str] = []
        self.welcomes = 0
        self.recoveries = 0
        self.offset: str | None = None
        self._url = url
        self._history = history
        self._random = random
        self._pause = pause
        self._joined = False
        self._newest: dict[str, str | None] = {}
        self._behind: dict[str, str | None] = {}
        """Rooms to fetch, each with the offset of the last message before the gap."""
        self._changed = asyncio.Condition()
        self._fetcher: asyncio.Task[None] | None = None
        self._visiting: set[str] = set()

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *_: object) -> None: ...

    @property
    @abstractmethod
    def online(self) -> bool:
        """Whether it has been welcomed on a connection that still seems alive."""

    @abstractmethod
    async def call(self, action: str, /, **payload: Any) -> Reply:
        """Send an action and wait for its reply. Raises LostError."""

    @abstractmethod
    async def lose(self) -> None:
        """Lose the connection, somehow."""

    def settle_in(self, rooms: list[str]) -> None:
        """It is a member of these rooms from now on; the history counts from here."""
        self.rooms = sorted(rooms)
        self._joined = True
        for room in self.rooms:
            self._history.joined(self.username, room)

    async def until_online(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.online)

    async def insist(self, action: str, /, **payload: Any) -> Reply:
        """Send an action until it has a final reply, however often that takes."""
        while True:
            try:
                reply = await self.call(action, **payload)
            except LostError:
                await asyncio.sleep(PAUSE)  # before the next attempt
                continue
            if reply["ok"] or reply["error"]["code"] not in TEMPORARY:
                return reply
            await asyncio.sleep(PAUSE)  # before the next attempt

    async def send_message(self, room: str, id_: str, content: str) -> None:
        """Send a message until it is acked."""
        self._history.sent(self.username, room, id_, content)
        reply = await self.insist("send-msg", room=room, id=id_, content=content)
        if reply["ok"]:
            self._history.acked(self.username, room, id_, reply["ts"])
        else:
            self._history.note("refused", self.username, f"{room} {id_}: {reply['error']}")

    async def bring(self, room: str, username: str) -> bool:
        """Add a user to a room; whether there is such a user."""
        reply = await self.insist("add-user", room=room, users=[username])
        if not reply["ok"] and reply["error"]["code"] != "unknown_user":
            self._history.note("refused", self.username, f"{username} in {room}: {reply['error']}")
        return bool(reply["ok"])

    async def visit(self, room: str, host: Member, seconds: float) -> None:
        """Be in a room of others for a while, and leave it."""
        visit = self._history.visit(self.username, room)
        if not await host.bring(room, self.username):
            self._history.note("refused", self.username, f"is unknown to {room}")
            return
        visit.begun = self._history.tick()
        self._visiting.add(room)
        await asyncio.sleep(seconds)  # it stays for a while
        visit.seen = await self.settle()
        self._visiting.discard(room)
        reply = await self.insist("leave-room", room=room)
        if not reply["ok"] and reply["error"]["code"] != "room_not_found":  # an attempt before has done it
            self._history.note("refused", self.username, f"to leave {room}: {reply['error']}")
        visit.over = self._history.tick()

    async def settle(self) -> int:
        """Until it is back with nothing left to fetch, and a round trip has brought all that was on the way: through
        what the store publishes in one order. A reply that only reads may overtake what came from other nodes.

        Returns the tick at which that began: of what was acked before, nothing is missing.
        """
        while True:
            await self.until_online()
            if self._fetcher is not None:
                await self._fetcher
            before, tick = self.welcomes, self._history.tick()
            try:
                reply = await self.call("typing", room=self.rooms[0])
            except LostError:
                await asyncio.sleep(PAUSE)  # before the next attempt
                continue
            if reply["ok"] and self.online and self.welcomes == before and not self._behind:
                return tick
            if not reply["ok"] and reply["error"]["code"] not in TEMPORARY:
                self._history.note("removed", self.username, f"{self.rooms[0]}: {reply['error']}")
                return tick
            await asyncio.sleep(PAUSE)  # before the next attempt

    async def online_in(self, room: str) -> set[str]:
        """The members of a room that are shown as online, and those that are not, with a minus before their names."""
        reply = await self.insist("list-members", room=room, limit=PAGE)
        if not reply["ok"] or reply["more"]:
            self._history.note("refused", self.username, f"members of {room}: {reply}")
            return set()
        return {("" if member["online"] else "-") + member["username"] for member in reply["members"]}

    async def read_whole_log(self, room: str) -> list[dict[str, Any]]:
        while True:
            try:
                return await self.read_log(room)
            except LostError:
                await asyncio.sleep(PAUSE)  # before the next attempt

    async def read_log(self, room: str, until: str | None = None) -> list[dict[str, Any]]:
        """The history of a room, back to the message with the offset `until` or to its beginning. Raises LostError."""
        messages: list[dict[str, Any]] = []
        before: dict[str, Any] = {}
        while True:
            reply = await self.call("history", room=room, limit=PAGE, **before)
            if not reply["ok"]:
                if reply["error"]["code"] not in TEMPORARY:
                    self._history.note("refused", self.username, f"history of {room}: {reply['error']}")
                    return messages
                await asyncio.sleep(PAUSE)  # before the next attempt
                continue
            page = reply["messages"]
            messages = page + messages
            if not reply["more"] or any(message["offset"] == until for message in page):
                return messages
            before = {"before": page[0]["offset"]}

    # --- what the wires report

    def _on_welcome(self, fields: dict[str, Any]) -> None:
        self.welcomes += 1
        recovered = fields["recovered"]
        self._history.trace(self.username, f"welcome, recovered {recovered}, at {self.offset}")
        if not self._joined:
            return
        self._history.welcomed(self.username, [entry["room"] for entry in fields["rooms"]], recovered=recovered)
        if recovered:
            self.recoveries += 1
            return
        self._behind = {room: self._newest.get(room) for room in {*self.rooms, *self._visiting}} | self._behind
        if self._fetcher is None or self._fetcher.done():
            self._fetcher = asyncio.create_task(self._fetch())

    def _on_event(self, name: str, fields: dict[str, Any], offset: str | None) -> None:
        if offset is not None:
            self.offset = offset
        if name == "welcome":
            self._on_welcome(fields)
        elif name == "message":
            self._history.received(self.username, Message.of(fields, offset))
            self._newest[fields["room"]] = offset
        elif name == "error":
            self._history.note("refused", self.username, str(fields))

    async def _fetch(self) -> None:
        """Read the history of the rooms that were not recovered; again, where the next gap came meanwhile."""
        while self._behind:
            room, until = next(iter(self._behind.items()))
            before = self.welcomes
            try:
                page = await self.read_log(room, until)
            except LostError:
                await asyncio.sleep(PAUSE)  # before the next attempt
                continue
            self._history.trace(self.username, f"fetched {len(page)} of {room}, back to {until}")
            self._history.refetched(self.username, map(Message.of, page))
            if page and self._newest.get(room) == until:
                self._newest[room] = page[-1]["offset"]
            if before == self.welcomes:
                del self._behind[room]

    async def _report_change(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class JSONMember(Member):
    """On the plain wire, with the reconnecting that a Socket.IO client has built in."""

    def __init__(self, url: str, username: str, history: History, random: Random, pause: float) -> None:
        super().__init__(url, username, history, random, pause)
        self._pid: str | None = None
        self._socket: ClientConnection | None = None
        self._abandoned: list[ClientConnection] = []
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._refs = itertools.count(1)
        self._reading: asyncio.Task[None] | None = None
        self._life: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._life = asyncio.create_task(self._live())
        await self.until_online()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._life is not None
        for task in (self._life, self._fetcher):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        for connection in (*self._abandoned, self._socket):
            if connection is not None:
                connection.transport.abort()
                await connection.wait_closed()

    @property
    def online(self) -> bool:
        return self._socket is not None

    async def _live(self) -> None:
        while True:
            self._history.trace(self.username, f"opens, at {self.offset}")
            resume = {} if self._pid is None else {"pid": self._pid, "offset": str(self.offset)}
            url = f"{websocket_url(self._url)}/username/{self.username}?{urlencode({'format': 'json', **resume})}"
            try:
                connection = await open_websocket(url)
            except RefusedError as refusal:
                if refusal.code not in TEMPORARY:
                    self._history.note("refused", self.username, str(refusal))
            except FAILURES as failure:
                self._history.trace(self.username, repr(failure))
            else:
                self._reading = asyncio.create_task(self._read(connection))
                await asyncio.wait([self._reading])
                self._socket = None
                self._history.trace(self.username, f"lost, {connection.close_code}")
                for reply in self._replies.values():
                    if not reply.done():
                        reply.set_exception(LostError())
                self._replies.clear()
                await self._report_change()
                if not self._reading.cancelled() and (error := self._reading.exception()) is not None:
                    self._history.note("broken", self.username, repr(error))
            await asyncio.sleep(self._random.uniform(0, self._pause))  # before the next attempt

    async def _read(self, connection: ClientConnection) -> None:
        with suppress(WebSocketException):
            async for frame in connection:
                fields = orjson.loads(frame)
                name = fields.pop("event")
                if name == "reply":
                    if (reply := self._replies.pop(fields["ref"], None)) is not None and not reply.done():
                        reply.set_result(fields)
                    continue
                offset = fields.pop("offset", None)
                self._on_event(name, fields, offset)
                if name == "welcome":
                    self._pid, self._socket = fields["pid"], connection
                    await self._report_change()

    async def call(self, action: str, /, **payload: Any) -> Reply:
        await self.until_online()
        if self._socket is None:
            raise LostError
        ref = next(self._refs)
        reply = self._replies[ref] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(dump({"action": action, **payload, "ref": ref}))
        except WebSocketException:
            self._replies.pop(ref, None)
            raise LostError from None
        return await reply

    async def lose(self) -> None:
        if self._socket is not None:
            if self._random.random() < 0.3:
                await self.abandon()
            else:
                reset(self._socket.transport)

    async def abandon(self) -> None:
        """Come back on another connection while the gateway believes this one alive."""
        if self._socket is not None and self._reading is not None:
            self._abandoned.append(self._socket)
            self._reading.cancel()


class StockMember(Member):
    """The stock socket.io-client: it reconnects and recovers by itself."""

    def __init__(
        self,
        url: str,
        username: str,
        history: History,
        random: Random,
        pause: float,
        driver: Driver,
        wire: str,
        **options: Any,
    ) -> None:
        """`options`: the client's own, which come before those that follow from `pause`."""
        super().__init__(url, username, history, random, pause)
        self._options = options
        self._driver = driver
        self._wire = wire
        self._number = next(_numbers)
        self._online = False
        self._recovered = False

    async def __aenter__(self) -> Self:
        self._driver.listeners[self._number] = self._report
        options = {
            "transports": TRANSPORTS[self._wire],
            "auth": {"username": self.username},
            "reconnectionDelay": 100 * self._pause,
            "reconnectionDelayMax": 1500 * self._pause,
            **self._options,
        }
        await self._do("open", url=self._url, options=options)
        await self.until_online()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._fetcher is not None:
            self._fetcher.cancel()
            await asyncio.wait([self._fetcher])
        await self._do("forget")
        self._driver.listeners.pop(self._number, None)

    @property
    def online(self) -> bool:
        return self._online

    def _report(self, kind: str, value: dict[str, Any]) -> None:
        if kind != "event":
            self._history.trace(self.username, f"{kind} {value}")
        match kind:
            case "event":
                self._event(value["name"], *value["args"])
            case "connect":
                self._recovered = value["recovered"]
            case "disconnect":
                self._set_online(False)
                if value["reason"] == "io server disconnect":
                    self._refused("was sent away", final=True)
            case "stranded":
                # No network loses a connection in this way: the client would receive these twice.
                self._history.note("stranded", self.username, f"{value['packets']} packets when it lost its connection")
            case "connect_error" if value.get("data"):
                self._refused(str(value["data"]), final=value["data"]["code"] not in TEMPORARY)

    def _event(self, name: str, fields: dict[str, Any], offset: str | None = None) -> None:
        if name == "welcome":
            self._set_online(True)
            if fields["recovered"] is not self._recovered:
                problem = f"welcome says {fields['recovered']}, the client {self._recovered}"
                self._history.note("disagreed", self.username, problem)
        self._on_event(name, fields, offset)

    def _refused(self, why: str, *, final: bool) -> None:
        """The client would not come back by itself."""
        if final:
            self._history.note("refused", self.username, why)
        self._connecting = asyncio.create_task(self._connect_later())

    async def _connect_later(self) -> None:
        await asyncio.sleep(self._random.uniform(0, self._pause))  # before the next attempt
        await self._do("connect")

    def _set_online(self, online: bool) -> None:
        self._online = online
        self._telling = asyncio.create_task(self._report_change())

    async def _do(self, what: str, **command: Any) -> Any:
        return await self._driver.call({"do": what, "socket": self._number, **command})

    async def call(self, action: str, /, **payload: Any) -> Reply:
        before = self.welcomes
        try:
            (reply,) = await self._do("emit", name=action, args=[payload], ack=True)
        except AssertionError as failure:
            if "no answer" in str(failure) and self._online and self.welcomes == before:
                self._history.note("unanswered", self.username, str(failure))
            raise LostError from None
        return dict(reply)

    async def lose(self) -> None:
        await self._do(self._random.choice(("drop", "cut")))


class Guest:
    """On the bare wire, where nobody comes back to a session: each connection is a new user, to be brought in again."""

    def __init__(self, url: str, username: str, history: History, random: Random) -> None:
        self._url = f"{websocket_url(url)}/username/{username}"
        self._username = username
        self._history = history
        self._random = random
        self._replies: asyncio.Queue[Reply | None] = asyncio.Queue()

    async def come_and_go(self, hosts: dict[str, list[Member]], over: asyncio.Event) -> None:
        """Visit rooms and listen, on one connection after the other, until it is `over`."""
        while not over.is_set():
            try:
                connection = await open_websocket(self._url)
            except RefusedError as refusal:
                if refusal.code not in {*TEMPORARY, "username_taken"}:  # a lost session may not be known as such yet
                    self._history.note("refused", self._username, str(refusal))
            except FAILURES:
                pass
            else:
                self._replies = asyncio.Queue()
                reading = asyncio.create_task(self._read(connection))
                with suppress(LostError, WebSocketException):
                    while not over.is_set():
                        await self._visit(connection, hosts)
                await self._end(connection)
                await reading
            await asyncio.sleep(self._random.uniform(0, 4 * PAUSE))  # before the next visit

    async def _visit(self, connection: ClientConnection, hosts: dict[str, list[Member]]) -> None:
        """Raises LostError or WebSocketException when the connection is gone."""
        room = self._random.choice(list(hosts))
        visit = self._history.visit(self._username, room)
        if not await self._random.choice(hosts[room]).bring(room, self._username):
            raise LostError
        visit.begun = self._history.tick()
        for _ in range(self._random.randrange(1, 6)):
            await asyncio.sleep(self._random.uniform(0.1, 1))  # it stays for a while
            tick = self._history.tick()
            await self._ask(connection, action="typing", room=room)
            visit.seen = tick
        if self._random.random() < 0.3:
            raise LostError
        await self._ask(connection, action="leave-room", room=room)
        visit.over = self._history.tick()

    async def _ask(self, connection: ClientConnection, **action: str) -> None:
        """Ask until there is a final reply."""
        while True:
            await connection.send(dump(action))
            reply = await self._replies.get()
            if reply is None:
                raise LostError
            if reply.get("ok"):
                return
            if reply["error"]["code"] not in TEMPORARY:
                self._history.note("refused", self._username, f"{action}: {reply}")
                return
            await asyncio.sleep(PAUSE)  # before the next attempt

    async def _read(self, connection: ClientConnection) -> None:
        with suppress(WebSocketException):
            async for frame in connection:
                if isinstance(frame, str) and frame.startswith("{"):  # no message of the soak begins so
                    self._replies.put_nowait(orjson.loads(frame))
                else:
                    self._history.received_content(self._username, str(frame))
        self._replies.put_nowait(None)

    async def _end(self, connection: ClientConnection) -> None:
        """In one of the ways in which a connection ends."""
        if self._random.random() < 0.5:
            reset(connection.transport)
        await connection.close()
