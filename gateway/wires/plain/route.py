"""The handler of ``/username/{name}``: who may log in, and what a client's frames ask for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from gateway.actions import refusal
from gateway.errors import GatewayError, InvalidPayload, InvalidUsername, LimitReached
from gateway.schemas import is_username, load_credentials
from gateway.servers.websocket.rfc6455 import CloseCode, text_frame
from gateway.wires.plain.connection import PlainConnection
from gateway.wires.plain.formats import JSON, WIRES, read_object, read_ref, reply_object
from gateway.wires.plain.refusals import NoUpgrade, check_handshake, refuse

if TYPE_CHECKING:
    from gateway.access.origins import OriginPolicy
    from gateway.actions import Actions, Reply
    from gateway.schemas import Credentials
    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.limits import Limits
    from gateway.servers.seats import Seats
    from gateway.servers.websocket.handshake import Handshake
    from gateway.sessions import Sessions
    from gateway.wires.plain.formats import BareWire, JSONWire

LEAVING_CODES: Final = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})
"""Close codes of a client that leaves on purpose: 1000, or none at all."""

RESUME: Final = "resume"
"""The action of the first frame of a client that logs in with it, so that no secret is in its URL (``?resume``)."""


class LogIn(NamedTuple):
    """A log-in that may be tried."""

    handshake: Handshake
    connection: PlainConnection
    credentials: Credentials


class PlainRoute:
    """Serves the plain wire."""

    def __init__(
        self,
        sessions: Sessions,
        actions: Actions,
        origins: OriginPolicy,
        heartbeats: Heartbeats,
        *,
        max_frame_size: int,
        limits: Limits,
        seats: Seats,
    ) -> None:
        self.heartbeats = heartbeats
        self.max_frame_size = max_frame_size
        self.limits = limits
        self._sessions = sessions
        self._actions = actions
        self._origins = origins
        self._seats = seats
        self._prefix = ""

    def add_to(self, app: web.Application, base: str = "") -> None:
        """Serve ``/username/{name}``, below ``base``."""
        self._prefix = f"{base}/username/"
        app.router.add_get(f"{base}/username/{{name}}", self.handle, allow_head=False)
        app.router.add_route("*", f"{base}/username/{{rest:.*}}", _unknown_path)

    # --- entrances

    def take_handshake(self, handshake: Handshake) -> bool:
        """Serve a handshake that aiohttp has not seen (`upgrades.TakeHandshake`). What is refused before the store is
        asked is left to `handle`.
        """
        request = handshake.request
        if request.method != "GET" or not request.path.startswith(self._prefix):
            return False
        name = request.path.removeprefix(self._prefix)
        try:
            log_in = self._prepare(handshake, self._check(request, name), name)
        except GatewayError:
            return False
        log_in.connection.log_in(partial(self._open_early, log_in))
        return True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a request that aiohttp has routed here."""
        name = request.match_info["name"]
        try:
            wire = self._check(request, name)
            log_in = self._prepare(check_handshake(request), wire, name)
        except GatewayError as error:
            return refuse(error)
        return await self._open(log_in)

    # --- the one path of both

    def _check(self, request: web.BaseRequest, name: str) -> BareWire | JSONWire:
        if not is_username(name):
            raise InvalidUsername
        self._origins.check(request)
        wire = WIRES.get(request.query.get("format", "bare"))
        if wire is None:
            raise InvalidPayload.in_fields({"format": [f"Must be one of {', '.join(WIRES)}."]})
        if RESUME in request.query and wire is not JSON:
            raise InvalidPayload.in_fields({"resume": ["Needs format=json."]})
        return wire

    def _prepare(self, handshake: Handshake, wire: BareWire | JSONWire, name: str) -> LogIn:
        query = handshake.request.query
        secrets = {field: query[field] for field in ("pid", "offset") if field in query}
        credentials = load_credentials({"username": name, **secrets})
        connection = PlainConnection(self, wire)
        if not self._seats.take(connection):
            raise LimitReached.connections(self._seats.count)
        return LogIn(handshake, connection, credentials)

    async def _open(self, log_in: LogIn) -> web.StreamResponse:
        """Log a client in and accept its handshake; or refuse it."""
        handshake, connection, credentials = log_in
        if RESUME in handshake.request.query:
            connection.await_log_in(credentials.username)
            return handshake.accept(connection.stream)
        try:
            with handshake.watch(partial(self._sessions.abandon, connection)):
                await self._log_in(connection, credentials)
        except BaseException as error:
            self._seats.leave(connection)
            if isinstance(error, GatewayError):
                return handshake.refuse(refuse(error))
            raise
        self.heartbeats.add(connection)
        return handshake.accept(connection.stream)

    async def _open_early(self, log_in: LogIn) -> None:
        try:
            await self._open(log_in)
        except BaseException:
            log_in.handshake.refuse(web.Response(status=500))
            raise

    async def _log_in(self, connection: PlainConnection, credentials: Credentials) -> None:
        if credentials.pid is not None:
            connection.may_know_pid = True
        await self._sessions.connect(connection, credentials)

    # --- what a connection calls (its Host)

    async def resume(self, connection: PlainConnection, username: str, data: bytes) -> None:
        """Log a client in with its first frame, which says which session to resume. It is refused in a reply."""
        ref: Reply = {}
        try:
            value = read_object(data)
            if value is None or value.get("action") != RESUME:
                raise InvalidPayload(f'The first frame must be one JSON object with the action "{RESUME}".')
            ref = read_ref(data, value)
            await self._log_in(connection, load_credentials({**value, "username": username}))
        except GatewayError as error:
            connection.refuse(ref, error)
            return
        self.heartbeats.add(connection)
        connection.write(text_frame(reply_object(ref, {"ok": True})))

    async def reply_to(self, connection: PlainConnection, data: bytes) -> bytes:
        """Do what a frame asks for; returns the payload of the frame that replies to it."""
        wire = connection.wire
        value = read_object(data)
        if value is None:
            error = InvalidPayload("A frame must be one JSON object, and not nested too deeply.")
            return wire.encode_reply(data, None, {}, refusal(error))
        try:
            ref = read_ref(data, value)
        except InvalidPayload as error:
            return wire.encode_reply(data, None, {}, refusal(error))
        action = value.get("action")
        reply = await self._actions.perform(connection, action, value)
        return wire.encode_reply(data, action, ref, reply)

    def closing(self, connection: PlainConnection) -> None:
        """The client's WebSocket has ended; if it is still logging in, the log-in is abandoned."""
        self._seats.leave(connection)
        if connection.session is None:
            self._sessions.abandon(connection)

    def end(self, connection: PlainConnection, code: int) -> None:
        """The client is gone; it closed with ``code``."""
        self.heartbeats.remove(connection)
        if code in LEAVING_CODES:
            self._sessions.end(connection)
        else:
            self._sessions.lose(connection)


async def _unknown_path(request: web.Request) -> web.Response:
    """Reply where there is no user of that name, or no GET, as a handshake is."""
    if is_username(request.match_info["rest"]):
        return refuse(NoUpgrade(f"This is a WebSocket; connect with ws:// or wss:// (RFC 6455), not {request.method}."))
    return refuse(InvalidUsername())
