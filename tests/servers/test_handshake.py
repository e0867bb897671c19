"""A WebSocket handshake from the request to the stream, on both entrances, and what is written before the response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.servers import Runner, Upgrades
from gateway.servers.limits import Limits
from gateway.servers.websocket.handshake import Handshake
from gateway.servers.websocket.rfc6455 import Message, text_frame
from gateway.servers.websocket.stream import StreamState, WebSocketStream
from harness.http import WEBSOCKET_HEADERS
from harness.http1 import Connection, connection, head, masked
from harness.inbox import TIMEOUT
from harness.waiting import until

HANDSHAKE = head("/", WEBSOCKET_HEADERS.items())


class RecordingListener:
    """A `Listener` that records its calls."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.calls: list[object] = []
        self.stream = WebSocketStream(self, max_size=100_000, limits=limits or Limits())

    def message_received(self, message: Message) -> None:
        self.calls.append(message.data.decode())

    def pong_received(self) -> None: ...

    def describe(self) -> dict[str, object]:
        return {}

    def too_slow(self) -> None:
        self.calls.append("too slow")
        self.stream.close(4008)

    def stream_ended(self, code: int) -> None:
        self.calls.append(code)


class Application:
    """Decides on a handshake when the test allows it, on either entrance."""

    def __init__(self, *, past_aiohttp: bool) -> None:
        self.listener = RecordingListener()
        self.url = ""
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.refusal: web.Response | None = None
        self.lost = 0
        self.handshakes = 0
        self._past_aiohttp = past_aiohttp
        self._deciding: asyncio.Task[object] | None = None

    def _note_lost(self) -> None:
        self.lost += 1

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self._decide(Handshake(request))

    def take(self, handshake: Handshake) -> bool:
        if self._past_aiohttp:
            self._deciding = asyncio.create_task(self._decide(handshake))
        return self._past_aiohttp

    async def _decide(self, handshake: Handshake) -> web.StreamResponse:
        self.handshakes += 1
        with handshake.watch(self._note_lost):
            self.asked.set()
            await self.go.wait()
        if self.refusal is not None:
            return handshake.refuse(self.refusal)
        return handshake.accept(self.listener.stream)


@pytest.fixture(params=["aiohttp", "past-aiohttp"])
async def application(request: pytest.FixtureRequest) -> AsyncIterator[Application]:
    application = Application(past_aiohttp=request.param == "past-aiohttp")
    app = web.Application()
    app.router.add_get("/", application.handle)
    app.router.add_get("/page", page)
    runner = Runner(app, access_log=None, shutdown_timeout=0.1, headers={"X-Of": "the server"})
    await runner.setup()
    assert runner.server is not None
    upgrades = Upgrades(runner.server, [application.take], timeout=5.0)
    listening = await asyncio.get_running_loop().create_server(upgrades, "127.0.0.1", 0)
    application.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    yield application
    application.listener.stream.abort()
    application.go.set()
    listening.close()
    upgrades.close()
    await runner.cleanup()


async def page(request: web.Request) -> web.StreamResponse:
    return web.Response(text="a page")


async def asked(application: Application, tcp: Connection, after: bytes = b"") -> None:
    """A handshake has arrived, with ``after`` in the same segment, and has no response yet."""
    tcp.send(HANDSHAKE + after)
    async with asyncio.timeout(TIMEOUT):
        await application.asked.wait()


async def test_frames_written_before_the_response_follow_it(application: Application) -> None:
    """In its order; then what is written later. What the client has sent meanwhile is read."""
    stream = application.listener.stream
    async with connection(application.url) as tcp:
        stream.write(text_frame(b"one"))
        await asked(application, tcp, masked("early"))
        stream.write(text_frame(b"two"))
        assert stream.unsent() == len(text_frame(b"onetwo")) + 2
        application.go.set()
        assert (await tcp.response()).status == 101
        await until(lambda: application.listener.calls == ["early"])
        stream.write(text_frame(b"three"))
        assert [await tcp.frame() for _ in range(3)] == [b"one", b"two", b"three"]


async def test_a_close_before_the_response_is_the_last_frame_after_it(application: Application) -> None:
    """Frames written after it are dropped; the close frame of the client is awaited as usual."""
    stream = application.listener.stream
    async with connection(application.url) as tcp:
        await asked(application, tcp)
        stream.write(text_frame(b"one"))
        stream.close(4001, "elsewhere")
        stream.write(text_frame(b"late"))
        stream.close(4002, "late")
        application.go.set()
        assert (await tcp.response()).status == 101
        assert [await tcp.frame(), await tcp.frame()] == [b"one", b"\x0f\xa1elsewhere"]
        assert stream.state is StreamState.CLOSING
        tcp.send(b"\x88\x82\0\0\0\0\x0f\xa1")
        assert await tcp.ended() == b""
    assert application.listener.calls == [4001]


async def test_a_client_that_disconnects_before_the_response_is_reported(application: Application) -> None:
    """That is reported at once; the stream ends when the handshake is accepted."""
    async with connection(application.url) as tcp:
        await asked(application, tcp)
        tcp.writer.transport.abort()
        await until(lambda: application.lost == 1)
        application.go.set()
        await until(lambda: application.listener.calls == [1006])
    assert application.listener.stream.state is StreamState.ENDED


async def test_a_refusal_is_an_ordinary_response(application: Application) -> None:
    """With the headers of the server; the connection is closed after it, whatever came after the handshake."""
    application.refusal = web.Response(status=409, text="taken")
    async with connection(application.url) as tcp:
        await asked(application, tcp, masked("early"))
        tcp.send(masked("later"))
        application.go.set()
        response = await tcp.response()
        assert (response.status, response.text, response.headers["x-of"]) == (409, "taken", "the server")
        assert await tcp.ended() == b""
    assert (application.handshakes, application.listener.calls) == (1, [])


async def test_refusing_a_client_that_has_disconnected_does_nothing(application: Application) -> None:
    """It is dropped; another client is served."""
    application.refusal = web.Response(status=409, text="taken")
    async with connection(application.url) as tcp:
        await asked(application, tcp)
        tcp.writer.transport.abort()
        await until(lambda: application.lost == 1)
        application.go.set()
    async with connection(application.url) as tcp:
        tcp.send(head("/page"))
        assert (await tcp.response()).text == "a page"


async def test_frames_received_before_the_response_are_kept_and_bounded(application: Application) -> None:
    """All of it is read in the end, however much; until then most of it waits in the system."""
    count, frame = 700, b"\x81\xfe\xea\x60\0\0\0\0" + b"x" * 60_000
    async with connection(application.url) as tcp:
        await asked(application, tcp)
        tcp.send(frame * count)
        await asyncio.sleep(0.1)  # what does not fit would have been read
        assert tcp.writer.transport.get_write_buffer_size() > 0  # type: ignore[attr-defined]
        application.go.set()
        await until(lambda: len(application.listener.calls) == count)


async def test_frames_held_before_the_response_are_bounded(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    """One write more than ``max_buffer`` is held; the next one has the client closed, once, which is logged. It gets
    what was held, and the close.
    """
    listener = application.listener = RecordingListener(Limits(1000))
    with caplog.at_level("INFO", "gateway.servers"):
        for held in (900, 1800, 1800, 1800):
            listener.stream.write(text_frame(bytes(896)))
            assert listener.stream.unsent() - held in {0, len(b"\x88\x02\x0f\xa8")}
    assert listener.calls == ["too slow"]
    assert [record.message for record in caplog.records] == ["cut a slow client"]
    async with connection(application.url) as tcp:
        application.go.set()
        tcp.send(HANDSHAKE)
        assert (await tcp.response()).status == 101
        assert [await tcp.frame() for _ in range(3)] == [bytes(896), bytes(896), b"\x0f\xa8"]


@pytest.mark.parametrize("end", ["close", "fail"])
def test_a_stream_that_never_opens_can_be_closed(end: str) -> None:
    """Its end is reported at once."""
    listener = RecordingListener()

    async def play() -> None:
        getattr(listener.stream, end)(1000)
        listener.stream.connection_lost(None)
        listener.stream.write(b"late")

    asyncio.run(play())
    assert listener.calls == [1006]
    assert listener.stream.state is StreamState.ENDED
