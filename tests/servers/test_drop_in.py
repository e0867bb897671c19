"""An application written for python-socketio runs on our servers unchanged, for its own client and the stock one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import socketio

from gateway.servers import SocketServer
from harness.inbox import TIMEOUT
from harness.node import Driver
from harness.stock import SocketIOClient
from servers.application import Log, serve, serve_alone

NAMESPACES = ["/", "/class", "/old"]


class App:
    """The application, and clients of python-socketio for it."""

    def __init__(self, url: str, log: Log, stack: AsyncExitStack, server: SocketServer) -> None:
        self.url = url
        self.server = server
        self._log = log
        self._stack = stack

    async def client(
        self, *transports: str, auth: Any = None, namespaces: list[str] | None = None, query: str = ""
    ) -> Client:
        client = Client()
        self._stack.push_async_callback(client.sio.shutdown)
        await client.sio.connect(
            self.url + query,
            auth=auth,
            transports=list(transports) or ["websocket"],
            namespaces=namespaces or NAMESPACES,
            wait_timeout=5,
        )
        return client

    async def logged(self) -> tuple[Any, ...]:
        async with asyncio.timeout(TIMEOUT):
            return await self._log.get()


class Client:
    """An ``AsyncClient`` that keeps what it receives and acks each question with the question, twice."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.received: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        for namespace in NAMESPACES:
            self.sio.on("*", self._receive, namespace=namespace)
            self.sio.on("question", self._reply, namespace=namespace)
            self.sio.on("no answer", self._think, namespace=namespace)

    def _receive(self, event: str, *args: Any) -> None:
        self.received.put_nowait((event, *args))

    async def _reply(self, question: Any) -> tuple[Any, Any]:
        return question, question

    async def _think(self, *_: Any) -> None:
        await asyncio.sleep(0.2)  # longer than the server waits

    async def next(self) -> tuple[Any, ...]:
        async with asyncio.timeout(TIMEOUT):
            return await self.received.get()

    async def call(self, event: str, data: Any = None, namespace: str = "/") -> Any:
        reply = await self.sio.call(event, data, namespace=namespace, timeout=TIMEOUT)
        return list(reply) if isinstance(reply, tuple) else reply


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """The application on our server, and python-socketio's own manager."""
    server, log = SocketServer(socketio.AsyncManager(), async_mode="aiohttp", async_handlers=True), Log()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve(server, log))
        yield App(url, log, stack, server)


TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]


@pytest.mark.parametrize("transports", TRANSPORTS, ids="-".join)
async def test_events_and_acks_carry_any_arguments(app: App, transports: list[str]) -> None:
    """No argument, one, many, bytes inside; no result, one, a tuple; on every transport."""
    client = await app.client(*transports)
    assert await client.next() == ("hello",)
    for args in ((), ("x",), (1, [2, {"three": None}]), (b"\0\xff", {"inside": [b"", b"x" * 10_000]})):
        reply = await client.call("echo", args)
        assert reply == (None if not args else args[0] if len(args) == 1 else list(args)), args
    assert await client.call("plain function", 1) == 2
    assert await client.call("nothing") is None
    assert await client.call("transport") == ("polling" if transports == ["polling"] else "websocket")


async def test_the_catch_all_handler_gets_other_events(app: App) -> None:
    """The handler of ``*`` gets its name."""
    client = await app.client()
    assert await client.call("whatever", ("x", 1)) == ["caught", "whatever", "x", 1]


async def test_json_is_encoded_as_the_standard_library_does(app: App) -> None:
    """As the standard library encodes it: numbers as names, numbers of any size, tuples."""
    client = await app.client()
    assert await client.call("shapes") == {"1": "a number as a name", "big": 2**70, "tuple": [1, 2]}


async def test_sessions_last_until_disconnect_is_handled(app: App) -> None:
    """``sio.session`` is kept between events, and is there in the disconnect handler, whatever the end."""
    client, lost = [await app.client(auth={"token": token}, namespaces=["/", "/class"]) for token in "ab"]
    assert await client.next() == ("hello", {"token": "a"})
    assert await client.call("remember", 1) is None
    assert await client.call("remember", 2) == 1
    assert await lost.call("remember", 3) is None
    await client.sio.disconnect()  # which may close before it has sent DISCONNECT
    ends = {(await app.logged())[0] for _ in range(2)}
    assert ends == {"disconnect", "class"}
    await lost.sio.eio.ws.close()
    ends = {await app.logged() for _ in range(2)}
    assert ends == {("disconnect", "b", "transport close"), ("class", "transport close")}


async def test_handlers_may_have_the_older_signatures(app: App) -> None:
    """``connect`` without auth and ``disconnect`` without a reason, neither of them a coroutine."""
    client = await app.client(namespaces=["/old"])
    await client.sio.disconnect()
    assert await app.logged() == ("old", "disconnect")


async def test_a_handler_can_call_its_client(app: App) -> None:
    """A handler may wait for an ack of the client whose event it handles, with bytes in it too."""
    client = await app.client()
    assert await client.call("ask_back", "why") == {"answer": ["why", "why"]}
    assert await client.call("ask_back", b"\1\2") == {"answer": [b"\1\2", b"\1\2"]}
    assert await client.call("ask_silently") == "timeout"
    assert await client.call("ask", namespace="/class") == ["class", "class"]


async def test_emit_takes_callbacks(app: App) -> None:
    """``emit(callback=)`` with a function and with a coroutine function."""
    client = await app.client()
    await client.call("with_callback", "x")
    assert await app.logged() == ("callback", "x", "x")
    await client.call("with_coroutine_callback", b"y")
    assert await app.logged() == ("coroutine", b"y", b"y")


async def test_rooms_of_an_application_work(app: App) -> None:
    """Members receive, those who left do not, a closed room is empty, and ``skip_sid`` is skipped."""
    alice, bob, carol = [await app.client() for _ in range(3)]
    for client in (alice, bob, carol):
        assert (await client.next())[0] == "hello"
        assert await client.call("enter", "r") == ["r"]
    await alice.call("say", ("r", "one", b"bytes"))
    assert await bob.next() == await carol.next() == ("said", "one", b"bytes")
    await bob.call("leave", "r")
    await alice.call("say", ("r", "two"))
    assert await carol.next() == ("said", "two")
    await alice.call("close", "r")
    await carol.call("say", ("r", "three"))
    await carol.call("enter", "r")
    await bob.call("say", ("r", "four"))
    assert await carol.next() == ("said", "four")
    assert alice.received.empty()
    assert bob.received.empty()


async def test_a_namespace_may_be_a_class(app: App) -> None:
    """Its rooms and its emits are those of its namespace."""
    alice, bob = await app.client(), await app.client()
    assert await alice.call("shout", "hey", "/class") == "done"
    for client in (alice, bob):
        assert (await client.next())[0] == "hello"
        assert await client.next() == ("shouted", "HEY")


async def test_clients_can_be_refused(app: App) -> None:
    """With an exception and its arguments, with False, and for a namespace that nobody serves."""
    for options, namespace in (
        ({"auth": {"token": "wrong"}, "namespaces": ["/"]}, "/"),
        ({"query": "?refuse", "namespaces": ["/old"]}, "/old"),
        ({"namespaces": ["/nobody"]}, "/nobody"),
    ):
        with pytest.raises(socketio.exceptions.ConnectionError, match=namespace if namespace != "/" else "failed"):
            await app.client(**options)


async def test_the_server_can_disconnect_a_client(app: App) -> None:
    """``sio.disconnect`` ends the client's place in that namespace alone, and its handler is called."""
    client = await app.client(auth={"token": "t"}, namespaces=["/", "/class"])
    await client.sio.emit("throw_out")
    assert await app.logged() == ("disconnect", "t", "server disconnect")
    assert await client.call("shout", "still here", "/class") == "done"


async def test_always_connect_accepts_clients_first() -> None:
    """``always_connect``: the connect handler exchanges events with an accepted client, and may refuse it later."""
    server, seen = SocketServer(socketio.AsyncManager(), always_connect=True), asyncio.Queue[Any]()

    @server.event
    async def connect(sid: str, environ: Any, auth: Any) -> Any:
        seen.put_nowait(await server.call("question", "who", to=sid, timeout=TIMEOUT))
        return auth != "nobody"

    async with serve_alone(server) as url:
        client = Client()
        await client.sio.connect(url, namespaces=["/"], transports=["websocket"])
        assert await asyncio.wait_for(seen.get(), TIMEOUT) == ("who", "who")
        assert client.sio.connected
        gone = asyncio.Event()
        refused = Client()
        refused.sio.on("disconnect", gone.set)
        await refused.sio.connect(url, auth="nobody", namespaces=["/"], transports=["websocket"])
        async with asyncio.timeout(TIMEOUT):
            await gone.wait()
        await client.sio.disconnect()
        await refused.sio.shutdown()


async def test_shutting_down_disconnects_clients_and_cancels_handlers() -> None:
    """Its clients are disconnected; their handlers are given time and then cancelled."""
    server, log = SocketServer(socketio.AsyncManager()), asyncio.Queue[str]()

    @server.event
    async def work(sid: str, seconds: float) -> None:
        log.put_nowait("begun")
        try:
            await asyncio.sleep(seconds)  # what it has to do
            log.put_nowait("done")
        except asyncio.CancelledError:
            log.put_nowait("cancelled")
            raise

    async with serve_alone(server) as url:
        clients = [Client() for _ in range(2)]
        for client, seconds in zip(clients, (0.3, 300), strict=True):
            await client.sio.connect(url, namespaces=["/"], transports=["websocket"])
            await client.sio.emit("work", seconds)
            assert await asyncio.wait_for(log.get(), TIMEOUT) == "begun"
    assert [await asyncio.wait_for(log.get(), TIMEOUT) for _ in clients] == ["done", "cancelled"]
    for client in clients:
        await client.sio.shutdown()


async def test_a_failing_handler_sends_no_ack(app: App) -> None:
    """Sends no ack, and the next event is handled."""
    client = await app.client()
    await client.sio.emit("fail")
    assert await client.call("echo", "next") == "next"


async def test_the_stock_client_works_with_an_application(app: App, driver: Driver) -> None:
    """The JavaScript client: events, acks both ways, bytes, another namespace, and its DISCONNECT."""
    client = Stock(driver, app.url, transports=["polling", "websocket"], auth={"token": "js"})
    async with client:
        assert (await client.next_event("hello")).fields == {"token": "js"}
        assert await client.ack("echo", "a", 1, {"$bytes": "AAEC"}) == ["a", 1, {"type": "Buffer", "data": [0, 1, 2]}]
        assert await client.ack("ask_back", [1, 2]) == [{"answer": [1, 2]}]
        await client.emit_without_ack("with_callback", "x")
        assert await app.logged() == ("callback", "x")
        async with Stock(driver, f"{app.url}/class") as other:
            assert await other.ack("shout", "x") == ["done"]
        assert await app.logged() == ("class", "client disconnect")
        await client.leave()
        assert await app.logged() == ("disconnect", "js", "client disconnect")


class Stock(SocketIOClient):
    """The stock client without a welcome, which is the gateway's."""

    async def __aenter__(self) -> Stock:
        self._driver.listeners[self.number] = self._report
        await self._do("open", url=self._url, options=self._options)
        await self.next_notice("connect")
        return self

    async def ack(self, name: str, *args: Any) -> list[Any]:
        return list(await self._do("emit", name=name, args=args, ack=True))
