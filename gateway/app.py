"""Wires everything together; nothing but the command line imports it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from aiohttp import web

from gateway import web as pages
from gateway.actions import Actions
from gateway.chat import Chat
from gateway.delivery import Delivery
from gateway.departure import send_away
from gateway.engines.base import ListUsers, Policy
from gateway.engines.sqlite.engine import SQLiteEngine
from gateway.logs import get_logger
from gateway.schemas import ActionPayloads
from gateway.sessions import Sessions
from gateway.transports.heartbeats import Heartbeats
from gateway.transports.httpserver import Runner
from gateway.transports.origins import OriginPolicy
from gateway.transports.socketio import ChatNamespace, socket_server
from gateway.transports.upgrades import Upgrades
from gateway.transports.websocket import PlainRoute

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.engines.base import Engine

CLOSE_TIMEOUT = 5.0
"""Seconds that clients have to go when the gateway stops."""

HEADER_TIMEOUT = 10.0
"""Seconds that a connection has until it says something, and as many again for the whole head of a request; after each
answer, for both.
"""

logger = get_logger(__name__)


def create_engine(settings: Settings) -> Engine:
    """The store that ``settings.store`` names."""
    policy = Policy(
        max_rooms=settings.max_rooms,
        max_members=settings.max_members,
        history_size=settings.history_size,
        presence_limit=settings.presence_limit,
        recovery_window=settings.recovery_window,
        reserve_names=settings.recovery_window if settings.reserve_names is None else settings.reserve_names,
        decline_window=settings.decline_window,
        list_users=ListUsers(settings.list_users),
        replay_size=settings.max_buffer // 2,
        commit_size=settings.max_buffer // 4,
    )
    path = settings.store.removeprefix("sqlite://").removeprefix("/")
    return SQLiteEngine(path or ":memory:", policy)


class Gateway:
    """A running gateway: its store, its clients and its HTTP server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = create_engine(settings)
        self._delivery = Delivery()
        self._sessions = Sessions(self._engine, self._delivery, max_connections=settings.max_connections)
        actions = Actions(
            Chat(self._engine, add_limit=settings.add_limit), ActionPayloads(settings), rate_limit=settings.rate_limit
        )
        origins = OriginPolicy(settings.allowed_origins)
        self._socketio = socket_server(
            self._delivery,
            origins,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            max_http_buffer_size=settings.max_frame_size,
            max_buffer=2 * settings.max_buffer,  # events have that of their connections; this one is for acks
        )
        self._socketio.register_namespace(
            ChatNamespace(self._delivery, self._sessions, actions, max_buffer=settings.max_buffer)
        )
        self._listening: asyncio.Server | None = None
        self._upgrades: Upgrades | None = None
        self._heartbeats = Heartbeats(settings.ping_interval, settings.ping_timeout)
        app = web.Application()
        self._socketio.attach(app)
        plain = PlainRoute(
            self._sessions,
            actions,
            origins,
            self._heartbeats,
            max_frame_size=settings.max_frame_size,
            max_buffer=settings.max_buffer,
        )
        plain.add_to(app)
        pages.add_routes(app, pages.static_folder(), is_ready=lambda: self._sessions.accepting)
        self._runner = Runner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=HEADER_TIMEOUT,
        )

    async def start(self) -> str:
        """Open the store and listen; returns the URL to open in a browser.

        Raises:
            StoreError: the store cannot be opened.
            OSError: the address cannot be listened on.
        """
        settings = self._settings
        await self._engine.open(self._delivery)
        try:
            self._sessions.start()
            await self._runner.setup()
            self._listening = await self._listen()
        except BaseException:
            await self.stop()
            raise
        host = settings.host or ""
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        url = f"http://{shown}:{self._listening.sockets[0].getsockname()[1]}/"
        logger.info("started", url=url, store=settings.store)
        return url

    async def _listen(self) -> asyncio.Server:
        settings = self._settings
        loop = asyncio.get_running_loop()
        http = cast("web.Server", self._runner.server)  # there is one from setup to cleanup
        self._upgrades = Upgrades(http, [self._socketio.eio.take_handshake], timeout=HEADER_TIMEOUT)
        server = await loop.create_server(self._upgrades, settings.host, settings.port, backlog=1024)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            # What these sockets accept has it too: a client that takes nothing for so long, on any wire, is gone.
            patience = round(1000 * (settings.ping_interval + settings.ping_timeout))
            for listening in server.sockets:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        return server

    async def stop(self) -> None:
        """Send every client away so that it comes back, and leave the store in order."""
        self._sessions.stop()
        self._socketio.eio.accepting = False
        connections = self._delivery.connections()
        await send_away(connections)
        if not await self._delivery.drained(CLOSE_TIMEOUT):
            logger.warning("clients did not go in time", connections=self._delivery.connection_count)
        await self._socketio.shutdown()
        if self._listening is not None:
            self._listening.close()
        if self._upgrades is not None:
            self._upgrades.close()
        await self._runner.cleanup()
        self._heartbeats.close()
        await self._sessions.close()
        await self._engine.close()
        logger.info("stopped", connections=len(connections))
