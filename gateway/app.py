"""Wires everything together. Only the command line imports it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from aiohttp import web

from gateway import health
from gateway import web as pages
from gateway.access.limits import RateLimits
from gateway.access.origins import OriginPolicy
from gateway.addresses import without_password
from gateway.chat import Chat
from gateway.delivery import Delivery
from gateway.engines.base import Durability, ListUsers, Policy
from gateway.engines.sqlite.engine import SQLiteEngine
from gateway.errors import StoreError
from gateway.listening import Listening
from gateway.logs import get_logger
from gateway.manager import ChatManager
from gateway.memory import machine_memory
from gateway.observe import NullObserver
from gateway.openfiles import FileWatch
from gateway.pipeline import Pipeline
from gateway.rules.store import Store
from gateway.servers import Forwarding
from gateway.servers.budget import Budget
from gateway.servers.heartbeats import Heartbeats
from gateway.servers.http.proxies import Proxies
from gateway.servers.http.runner import Runner
from gateway.servers.http.upgrades import Upgrades
from gateway.servers.limits import Limits
from gateway.servers.seats import Seats
from gateway.sessions import Sessions
from gateway.shutdown import Steps, disconnect_all
from gateway.tasks import TaskOwner
from gateway.wires.plain.route import PlainRoute
from gateway.wires.socketio.namespace import ChatNamespace, socket_server

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.engines.base import Cluster, Engine
    from gateway.observe import Observer

CLOSE_TIMEOUT = 5.0
"""How long clients have to close their side of the connection at shutdown, in seconds."""

CLIENTS_DEADLINE, SOCKETIO_DEADLINE, HTTP_DEADLINE, SESSIONS_DEADLINE, STORE_DEADLINE = 5.5, 6.5, 7.0, 7.5, 8.5
"""When each step of the shutdown must be completed, in seconds from its beginning: README promises ten for all of it. A
step that is done early leaves its time to the following ones.
"""

NOT_SAVED_ADVICE = (
    "The disk did not take what was being written. No client got an ack for it, and clients that return send it again. "
    "Sessions that have just ended or been lost may reappear as suspended."
)

NO_ADDRESS_ADVICE = (
    "Long-polling requests that come to another gateway are those of an unknown session there. Name an address with "
    "--node-address HOST:PORT, use sticky sessions, or accept WebSocket only: --transports websocket."
)

ADDRESS_ADVICE = (
    "Requests of long-polling clients that come to another node are passed on to this address. Where nodes cannot "
    "reach each other, use --transports websocket."
)

SILENCE_TIMEOUT = 10.0
"""How long a new connection may take to send its first byte, in seconds."""

MAX_FIELD_SIZE = 32_768
"""The largest header of a request, in bytes: other services on the same host may have set 16 KiB of cookies or more."""

logger = get_logger(__name__)


def create_store(settings: Settings, observer: Observer) -> Store:
    """The store that ``settings.store`` names."""
    policy = Policy(
        max_rooms=settings.max_rooms,
        max_members=settings.max_members,
        history_size=settings.history_size,
        history_bytes=settings.history_bytes,
        presence_limit=settings.presence_limit,
        recovery_window=settings.recovery_window,
        reserve_names=settings.recovery_window if settings.reserve_names is None else settings.reserve_names,
        decline_window=settings.decline_window,
        list_users=ListUsers(settings.list_users),
        replay_size=settings.max_buffer // 2,
        commit_size=settings.max_buffer // 4,
        max_store=settings.max_store,
    )
    return Store(_create_engine(settings.store, policy, observer), policy)


def _create_engine(url: str, policy: Policy, observer: Observer) -> Engine:
    if not url.startswith("sqlite:"):
        try:
            from gateway.engines.valkey.engine import ValkeyEngine  # noqa: PLC0415 - redis-py is an extra
        except ModuleNotFoundError:
            raise StoreError.needs_redis() from None
        return ValkeyEngine(url, policy, observer)
    path = url.removeprefix("sqlite://").removeprefix("/")
    return SQLiteEngine(path or ":memory:", policy, observer)


class Gateway:
    """A running gateway: its store, its clients and its HTTP server."""

    def __init__(
        self, settings: Settings, observer: Observer | None = None, *, listening: Listening | None = None
    ) -> None:
        """``observer`` is called for what happens; None is nobody. ``listening``: where to listen, if it is not to be
        bound as the settings say.
        """
        self._settings = settings
        observer = observer or NullObserver()
        self._store = create_store(settings, observer)
        self._manager = ChatManager()
        self._delivery = Delivery(self._manager, observer, recovery_window=settings.recovery_window)
        self._sessions = Sessions(self._store, self._delivery, observer)
        seats = Seats(settings.max_connections)
        budget = Budget(settings.max_memory or machine_memory() // 2)
        rates = RateLimits(rate_limit=settings.rate_limit, add_limit=settings.add_limit)
        pipeline = Pipeline(Chat(self._store), rates, dataclasses.asdict(settings), observer)
        origins = OriginPolicy(settings.allowed_origins, Proxies(settings.trust_proxy or ()))
        base = settings.base_path.rstrip("/")
        self._cluster = self._store.cluster()
        transports = settings.transports.split(",")
        self._forwarding = None
        if self._cluster is not None and "polling" in transports:
            self._forwarding = Forwarding(self._cluster, reply_timeout=settings.ping_interval + settings.ping_timeout)
            self._cluster.watch(self._forwarding.drop)
        self._socketio = socket_server(
            ChatNamespace(self._manager, self._sessions, pipeline),
            origins,
            transports=transports,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            max_http_buffer_size=settings.max_frame_size,
            max_buffer=settings.max_buffer,
            seats=seats,
            budget=budget,
            forwarder=self._forwarding,
        )
        self._bound = listening
        self._listening: Listening | None = None
        self._upgrades: Upgrades | None = None
        self._tasks = TaskOwner()
        self._heartbeats = Heartbeats(settings.ping_interval, settings.ping_timeout)
        app = web.Application()
        self._socketio.attach(app, f"{base}/socket.io")
        self._plain = PlainRoute(
            self._sessions,
            pipeline,
            origins,
            self._heartbeats,
            max_frame_size=settings.max_frame_size,
            limits=Limits(settings.max_buffer, budget),
            seats=seats,
        )
        self._plain.add_to(app, base)
        health.add_routes(
            app,
            base,
            is_stopping=lambda: not self._sessions.accepting,
            problem=self._store.problem,
            durability=self._store.durability,
        )
        pages.add_routes(app, pages.static_folder(), base)
        self._runner = Runner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            headers=pages.SECURITY_HEADERS,
            keepalive_timeout=settings.keep_alive,
            max_field_size=MAX_FIELD_SIZE,
        )

    async def start(self) -> Listening:
        """Open the store and begin to listen.

        Raises:
            StoreError: the store cannot be opened.
            ListenError: an address cannot be listened on.
        """
        settings = self._settings
        await self._store.open(self._delivery)
        try:
            if settings.require_durable and self._store.durability() is not Durability.DISK:
                raise StoreError(f"--require-durable: {self._store.durability().value}.")
            self._sessions.start()
            self._tasks.start(FileWatch().run())
            await self._runner.setup()
            listening = self._listening = self._bound or Listening.bind(
                settings.host, settings.port, settings.unix_socket, base_path=settings.base_path
            )
            http = cast("web.Server", self._runner.server)  # not None between setup and cleanup
            takers = [self._socketio.eio.take_handshake, self._plain.take_handshake]
            self._upgrades = Upgrades(http, takers, timeout=SILENCE_TIMEOUT)
            await listening.start(self._upgrades, unsent_timeout=settings.ping_interval + settings.ping_timeout)
            if self._cluster is not None and self._forwarding is not None:
                await self._announce(self._cluster, listening)
        except BaseException:
            await self.stop()
            raise
        logger.info(
            "started",
            url=listening.url,
            addresses=listening.addresses,
            store=without_password(settings.store),
            durability=self._store.durability().value,
        )
        return listening

    async def _announce(self, cluster: Cluster, listening: Listening) -> None:
        """Tell the other nodes where this one is reached."""
        address = self._settings.node_address or listening.node_address(cluster.host)
        if address is None:
            logger.warning("other nodes cannot reach this one", advice=NO_ADDRESS_ADVICE)
        else:
            await cluster.announce(address)
            logger.info("other nodes reach this one", address=address, advice=ADDRESS_ADVICE)

    async def stop(self) -> bool:
        """Disconnect every client so that it reconnects, and close the store, within `STORE_DEADLINE` seconds.

        Returns whether the shutdown was complete. If not, the log has the reason.
        """
        steps = Steps()
        self._sessions.stop()
        self._socketio.eio.accepting = False
        if self._bound is not None:
            self._bound.leave_port()  # new clients are for the other workers
        connections = self._manager.connections
        await steps.run("disconnect the clients", disconnect_all(connections), until=CLIENTS_DEADLINE)
        if not await self._manager.drained(min(CLOSE_TIMEOUT, steps.left_until(CLIENTS_DEADLINE))):
            logger.warning("clients did not disconnect in time", connections=len(self._manager.connections))
        await steps.run("close the Socket.IO server", self._socketio.shutdown(), until=SOCKETIO_DEADLINE)
        if self._listening is not None:
            self._listening.close()
        if self._upgrades is not None:
            self._upgrades.close()
        await steps.run("close the HTTP server", self._runner.cleanup(), until=HTTP_DEADLINE)
        self._heartbeats.close()
        await self._tasks.close(grace=0)
        await steps.run("end the sessions", self._sessions.close(), until=SESSIONS_DEADLINE)
        problem = self._store.problem()
        if not await self._store.close(steps.left_until(STORE_DEADLINE)):
            steps.complete = False
            logger.error("not everything was saved", problem=problem, advice=NOT_SAVED_ADVICE)
        if self._listening is not None:
            logger.info("stopped", connections=len(connections))
        return steps.complete
