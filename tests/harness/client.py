"""What every client that speaks the full protocol can do, whatever its wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, overload

from harness.names import fresh_name

if TYPE_CHECKING:
    from harness.inbox import Event, Inbox
    from harness.plain import BareClient, JsonClient
    from harness.stock import SocketIOClient

Reply = dict[str, Any]
Action = tuple[str, dict[str, Any]]


GROUP = {"kind": "group", "history": "all"}
"""The shape of a room that a client has created with only its name."""


class RefusedError(Exception):
    """A log-in that the gateway refused, with its `error`."""

    def __init__(self, error: dict[str, Any], status: int | None = None) -> None:
        super().__init__(f"{error} ({status})" if status else str(error))
        self.error = error
        self.status = status

    @property
    def code(self) -> str:
        return str(self.error.get("code"))


class ChatClient(Protocol):
    """One logged-in user on one connection."""

    username: str
    events: Inbox[Event]
    welcome: Event

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def call(self, action: str, /, **payload: Any) -> Reply:
        """Send an action and wait for its reply: `{"ok": …, …}`."""

    async def burst(self, actions: list[Action]) -> list[Reply]:
        """Send all actions without waiting, then wait for the replies and see that they came in order."""

    async def next_event(self, name: str) -> Event:
        """The first unread event of that name; others before it stay unread."""

    async def drain(self) -> list[Event]:
        """Make a round trip, then return every unread event: no other had been sent before."""

    async def leave(self) -> None:
        """Leave on purpose."""

    async def drop(self) -> None:
        """Lose the transport, without closing the session."""


class HasURL(Protocol):
    """What clients can connect to: a gateway, or a proxy before some."""

    @property
    def url(self) -> str: ...


StockWire = Literal["socketio-websocket", "socketio-polling", "socketio-polling-only"]


class Join(Protocol):
    """Logs a client in and closes it when the test is over. The wire decides the class."""

    @overload
    async def __call__(
        self,
        wire: Literal["json"] = "json",
        username: str | None = None,
        *,
        to: HasURL | None = None,
        **options: Any,
    ) -> JsonClient: ...

    @overload
    async def __call__(
        self, wire: Literal["bare"], username: str | None = None, *, to: HasURL | None = None, **options: Any
    ) -> BareClient: ...

    @overload
    async def __call__(
        self, wire: StockWire, username: str | None = None, *, to: HasURL | None = None, **options: Any
    ) -> SocketIOClient: ...

    @overload
    async def __call__(
        self, wire: str, username: str | None = None, *, to: HasURL | None = None, **options: Any
    ) -> ChatClient: ...


async def succeed(client: ChatClient, action: str, /, **payload: Any) -> Reply:
    """Call an action that must succeed."""
    reply = await client.call(action, **payload)
    assert reply["ok"] is True, f"{action} {payload}: {reply}"
    return reply


async def fail(client: ChatClient, action: str, code: str, /, **payload: Any) -> dict[str, Any]:
    """Call an action that must be refused with that code; returns the error."""
    reply = await client.call(action, **payload)
    assert reply["ok"] is False, f"{action} {payload}: {reply}"
    assert set(reply) == {"ok", "error"}, reply
    error = reply["error"]
    check_error(error, code)
    return dict(error)


async def make_room(creator: ChatClient, *others: ChatClient) -> str:
    """A new room with these members, each of whom has received `room-joined`."""
    room = fresh_name("room")
    await succeed(creator, "create-room", room=room, users=[other.username for other in others])
    for other in others:
        event = await other.next_event("room-joined")
        assert event.fields["room"] == room
    return room


def members(**online: bool) -> list[dict[str, Any]]:
    """Members as the protocol lists them: in order of name."""
    return [{"username": name, "online": online[name]} for name in sorted(online)]


def check_error(error: dict[str, Any], code: str) -> None:
    """An error has its code, a sentence, and no fields that the protocol does not define."""
    assert error["code"] == code, error
    assert isinstance(error["message"], str), error
    assert error["message"].strip(), error
    assert set(error) <= {"code", "message", "fields", "retry_after"}, error
    if "fields" in error:
        assert isinstance(error["fields"], dict), error
        assert error["fields"], error
