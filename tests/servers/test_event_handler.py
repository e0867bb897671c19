"""An `EventHandler`: an application that handles the events of its clients itself, in every namespace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from gateway.servers import Client, EventHandler, Manager, SocketServer
from harness.waiting import until
from servers.serving import serving

pytestmark = pytest.mark.fast

NAMESPACES = ["/", "/custom"]
WEBSOCKET = "?EIO=4&transport=websocket"


class Application(EventHandler):
    """Acks each event with its arguments, when the test allows it."""

    def __init__(self) -> None:
        self.server = SocketServer(Manager(), event_handler=self)
        self.calls: list[tuple[str, str, object]] = []
        self.waiting: dict[str, asyncio.Event] = {}
        for namespace in NAMESPACES:
            self.server.on("connect", self._connect, namespace=namespace)
            self.server.on("disconnect", partial(self._disconnect, namespace), namespace=namespace)
            self.server.on("*", self._never, namespace=namespace)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        for namespace in NAMESPACES:
            if (client := self.server.client(sid, namespace)) is not None:
                client.data = auth
                assert not client.joined

    async def _disconnect(self, namespace: str, sid: str, reason: str) -> None:
        self.calls.append(("disconnect", namespace, reason))

    async def _never(self, *arguments: Any) -> None:
        raise AssertionError("python-socketio has dispatched an event")

    async def handle_event(self, client: Client, event: list[Any], id_: int | None) -> Any:
        name, *arguments = event
        if name in self.waiting:
            await self.waiting[name].wait()
        self.calls.append((name, client.namespace, client.data))
        return None if id_ is None else partial(self.server.ack, client, id_, *arguments)

    def leaving(self, client: Client) -> None:
        self.calls.append(("leaving", client.namespace, client.data))

    def closing(self, client: Client) -> None:
        self.calls.append(("closing", client.namespace, client.data))


@pytest.fixture(name="application")
def _application() -> Application:
    return Application()


@asynccontextmanager
async def connected(application: Application, *namespaces: str) -> AsyncIterator[ClientConnection]:
    """A client in some namespaces; the auth of each is its name."""
    async with (
        serving(application.server, "socket.io") as url,
        connect(url.replace("http", "ws") + WEBSOCKET) as socket,
    ):
        await socket.recv()
        for namespace in namespaces:
            await socket.send(f'40{prefix(namespace)}"{namespace}"')
            assert str(await socket.recv()).startswith(f"40{prefix(namespace)}")
        yield socket


def prefix(namespace: str) -> str:
    return "" if namespace == "/" else f"{namespace},"


@pytest.mark.parametrize("namespace", NAMESPACES)
async def test_an_event_reaches_the_application_with_its_client(application: Application, namespace: str) -> None:
    """The namespace, and what the application keeps for the client there, come along; the ack has the arguments."""
    async with connected(application, *NAMESPACES) as socket:
        await socket.send(f'42{prefix(namespace)}7["say","tea",{{"with":["milk"]}}]')
        assert await socket.recv() == f'43{prefix(namespace)}7["tea",{{"with":["milk"]}}]'
        await socket.send(f'42{prefix(namespace)}["whisper"]')
        await until(lambda: len(application.calls) == 2)
    assert application.calls[:2] == [("say", namespace, namespace), ("whisper", namespace, namespace)]


async def test_attachments_are_arguments(application: Application) -> None:
    """Events with attachments come the same way, once all of it is there."""
    async with connected(application, *NAMESPACES) as socket:
        await socket.send('451-3["say",{"_placeholder":true,"num":0}]')
        await socket.send(b"tea")
        assert await socket.recv() == '461-3[{"_placeholder":true,"num":0}]'
        assert await socket.recv() == b"tea"


@pytest.mark.parametrize("namespace", NAMESPACES)
async def test_events_are_handled_and_acked_in_order(application: Application, namespace: str) -> None:
    """The second is handled while the first waits, and acked after it."""
    application.waiting["slow"] = asyncio.Event()
    async with connected(application, *NAMESPACES) as socket:
        await socket.send(f'42{prefix(namespace)}1["slow"]')
        await socket.send(f'42{prefix(namespace)}2["quick"]')
        await until(lambda: application.calls == [("quick", namespace, namespace)])
        application.waiting["slow"].set()
        assert [await socket.recv(), await socket.recv()] == [f"43{prefix(namespace)}{number}[]" for number in (1, 2)]


@pytest.mark.parametrize("namespace", NAMESPACES)
async def test_leaving_is_called_before_pending_events_are_done(application: Application, namespace: str) -> None:
    """`leaving` is called at once, ``disconnect`` when all before it is done; the other namespace stays."""
    application.waiting["slow"] = asyncio.Event()
    async with connected(application, *NAMESPACES) as socket:
        await socket.send(f'42{prefix(namespace)}["slow"]')
        await socket.send(f"41{prefix(namespace).rstrip(',')}")
        await until(lambda: application.calls == [("leaving", namespace, namespace)])
        application.waiting["slow"].set()
        reason = application.server.reason.CLIENT_DISCONNECT
        await until(
            lambda: application.calls[1:] == [("slow", namespace, namespace), ("disconnect", namespace, reason)]
        )
        (other,) = set(NAMESPACES) - {namespace}
        await socket.send(f'42{prefix(other)}5["still here"]')
        assert await socket.recv() == f"43{prefix(other)}5[]"


async def test_closing_is_called_for_each_namespace(application: Application) -> None:
    async with connected(application, *NAMESPACES) as socket:
        await socket.close()
        await until(lambda: len(application.calls) == 4)
    reason = application.server.reason.TRANSPORT_CLOSE
    assert application.calls == [
        *(("closing", namespace, namespace) for namespace in NAMESPACES),
        *(("disconnect", namespace, reason) for namespace in NAMESPACES),
    ]


async def test_an_event_before_connect_reaches_no_handler(application: Application) -> None:
    """A client that is in no namespace is closed when it sends one."""
    async with connected(application) as socket:
        await socket.send('42["say"]')
        async with asyncio.timeout(5):
            await socket.wait_closed()
    assert application.calls == []


@pytest.mark.parametrize("describes", [False, True])
async def test_a_client_that_does_not_read_is_logged_once(
    application: Application, describes: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server, with what the application says of the client, or else with the id of its session."""

    def describe(clients: Sequence[Client]) -> dict[str, object]:
        return {"namespaces": [client.namespace for client in clients]}

    if describes:
        monkeypatch.setattr(application, "describe", describe)
    async with connected(application, *NAMESPACES):
        (socket,) = application.server.eio.sockets.values()
        with caplog.at_level("INFO", "gateway.servers"):
            application.server.eio.limits.cut(socket, 4711)
        assert socket.closed
        (line,) = (vars(record) for record in caplog.records if record.message == "cut a slow client")
        assert line["unsent"] == 4711
        assert line.get("namespaces") == (NAMESPACES if describes else None)
        assert line.get("sid") == (None if describes else socket.sid)


def test_a_handler_without_handle_event_is_refused() -> None:
    """It would drop all events; it cannot be made."""
    with pytest.raises(TypeError, match="handle_event"):
        type("Half", (EventHandler,), {})()
