"""The stock Socket.IO client, under Node, with the interface that all clients share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

from harness import contract
from harness.client import RefusedError
from harness.inbox import Event, Inbox
from harness.waiting import poll_until

if TYPE_CHECKING:
    from harness.client import Action, Reply
    from harness.node import Driver

_numbers = itertools.count(1)

TRANSPORTS = {
    "socketio-websocket": ("websocket",),
    "socketio-polling": ("polling", "websocket"),
    "socketio-polling-only": ("polling",),
}


class SocketIOClient:
    """One socket of the stock client. Options are the client's own (`transports`, `auth`, `query`, `reconnection`, …).

    `notices` holds everything else: "connect", "disconnect", "connect_error" and "stranded", as `Event`s of that name.
    """

    def __init__(self, driver: Driver, url: str, username: str | None = None, **options: Any) -> None:
        self.username = username or ""
        self.number = next(_numbers)
        self.events: Inbox[Event] = Inbox(self.username or f"socket {self.number}")
        self.notices: Inbox[Event] = Inbox(self.events.owner)
        self.raw: list[tuple[str, list[Any]]] = []
        self.welcome: Event
        self._driver = driver
        self._url = url
        self._options = {"transports": TRANSPORTS["socketio-polling"], "reconnection": False, **options}
        if username is not None:
            self._options["auth"] = {"username": username, **options.get("auth", {})}

    async def __aenter__(self) -> Self:
        """Connect, or raise `RefusedError` with the error of `connect_error`."""
        self._driver.listeners[self.number] = self._report
        try:
            await self._do("open", url=self._url, options=self._options)
            first = await self.notices.take(lambda _: True, "connect or connect_error")
            if first.name != "connect":
                data = first.fields.get("data")
                raise RefusedError({"message": first.fields["message"], **(data if isinstance(data, dict) else {})})
            self.welcome = await self.next_event("welcome")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._do("forget")
        self._driver.listeners.pop(self.number, None)

    def _report(self, kind: str, value: dict[str, Any]) -> None:
        if kind == "return":
            return
        if kind != "event":
            self.notices.put(Event(kind, value))
            return
        name, args = value["name"], value["args"]
        self.raw.append((name, args))
        match args:
            case [dict(fields), str(offset)]:
                event = Event(name, fields, offset)
            case [dict(fields)]:
                event = Event(name, fields)
            case _:
                event = Event(name, {"unexpected arguments": args})
        contract.check_event(event.name, event.fields, event.offset)
        self.events.put(event)

    async def _do(self, what: str, **command: Any) -> Any:
        return await self._driver.call({"do": what, "socket": self.number, **command})

    async def call(self, action: str, /, **payload: Any) -> Reply:
        return await self.emit(action, payload)

    async def emit(self, name: str, *args: Any) -> Reply:
        """Emit with an ack and wait for it; the ack must be one object."""
        value = await self._do("emit", name=name, args=args, ack=True)
        assert len(value) == 1, f"ack of {name}: {value}"
        assert isinstance(value[0], dict), f"ack of {name}: {value}"
        contract.check_reply(_action(name, args), value[0])
        return dict(value[0])

    async def emit_without_ack(self, name: str, *args: Any) -> None:
        await self._do("emit", name=name, args=args, ack=False)

    async def burst(self, actions: list[Action]) -> list[Reply]:
        acks = await self._do("burst", events=actions)
        assert [index for index, _ in acks] == list(range(len(actions)))
        for (action, _), (_, reply) in zip(actions, acks, strict=True):
            contract.check_reply(action, reply)
        return [reply for _, reply in acks]

    async def next_event(self, name: str) -> Event:
        return await self.events.take(lambda event: event.name == name, f"event {name}")

    async def next_notice(self, name: str) -> dict[str, Any]:
        return (await self.notices.take(lambda notice: notice.name == name, name)).fields

    async def drain(self) -> list[Event]:
        await self.call("list-rooms")
        return self.events.take_all()

    async def leave(self) -> None:
        """`socket.disconnect()`."""
        await self._do("disconnect")

    async def drop(self) -> None:
        """Lose the transport; a client with `reconnection` comes back by itself."""
        await self._do("drop")
        await self.next_notice("disconnect")

    async def cut(self) -> None:
        """Have every TCP connection of the client reset; a client with `reconnection` comes back by itself."""
        await self._do("cut")
        await self.next_notice("disconnect")

    async def connect(self) -> None:
        """`socket.connect()`, after it was disconnected."""
        await self._do("connect")

    async def state(self) -> dict[str, Any]:
        return dict(await self._do("state"))

    async def wait_for_transport(self, name: str) -> None:
        """Wait until the upgrade is done. There is no notice of it, so the client is asked again and again."""

        async def is_there() -> bool:
            return bool((await self.state())["transport"] == name)

        await poll_until(is_there)


def _action(name: str, args: tuple[Any, ...]) -> object:
    """What an event asks for: `socket.send` emits `message`, whose payload names the action."""
    if name != "message":
        return name
    return args[0].get("action") if args and isinstance(args[0], dict) else None
