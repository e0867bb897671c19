"""Logging in on the plain wire: with the handshake, or with the first frame after it (``?resume``)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from gateway.errors import GatewayError, InvalidPayload, InvalidUsername, LimitReached
from gateway.payloads import load_credentials
from gateway.protocol.fields import is_username
from gateway.servers.websocket.rfc6455 import text_frame
from gateway.wires.plain.connection import PlainConnection
from gateway.wires.plain.formats import JSON, WIRES, read_object, read_ref, reply_object
from gateway.wires.plain.refusals import refuse

if TYPE_CHECKING:
    from gateway.access.origins import OriginPolicy
    from gateway.pipeline import Reply
    from gateway.protocol.login import Credentials
    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.seats import Seats
    from gateway.servers.websocket.handshake import Handshake
    from gateway.sessions import Sessions
    from gateway.wires.plain.connection import Host
    from gateway.wires.plain.formats import BareWire, JSONWire

RESUME: Final = "resume"
"""The action of the first frame of a client that logs in with it, so that no secret is in its URL (``?resume``)."""


class LogIn(NamedTuple):
    """A log-in that may be tried."""

    handshake: Handshake
    connection: PlainConnection
    credentials: Credentials


class LogIns:
    """Those of one route."""

    def __init__(self, sessions: Sessions, origins: OriginPolicy, heartbeats: Heartbeats, seats: Seats) -> None:
        self._sessions = sessions
        self._origins = origins
        self._heartbeats = heartbeats
        self._seats = seats

    def check(self, request: web.BaseRequest, name: str) -> BareWire | JSONWire:
        """The wire that a request asks for.

        Raises:
            GatewayError: it is not a valid log-in.
        """
        if not is_username(name):
            raise InvalidUsername
        self._origins.check(request)
        wire = WIRES.get(request.query.get("format", "bare"))
        if wire is None:
            raise InvalidPayload.in_fields({"format": [f"Must be one of {', '.join(WIRES)}."]})
        if RESUME in request.query and wire is not JSON:
            raise InvalidPayload.in_fields({"resume": ["Needs format=json."]})
        return wire

    def prepare(self, handshake: Handshake, route: Host, wire: BareWire | JSONWire, name: str) -> LogIn:
        """Make a connection, which takes a seat.

        Raises:
            GatewayError: the credentials are wrong, or there is no seat.
        """
        query = handshake.request.query
        secrets = {field: query[field] for field in ("pid", "offset") if field in query}
        credentials = load_credentials({"username": name, **secrets})
        connection = PlainConnection(route, wire)
        if not self._seats.take(connection):
            raise LimitReached.connections(self._seats.count)
        return LogIn(handshake, connection, credentials)

    async def open(self, log_in: LogIn) -> web.StreamResponse:
        """Log a client in and accept its handshake; or refuse it. Returns what a handler of aiohttp is to return."""
        handshake, connection, credentials = log_in
        if RESUME in handshake.request.query:
            connection.await_log_in(credentials.username)
            return handshake.accept(connection.stream)
        try:
            with handshake.watch(partial(self._sessions.abandon, connection)):
                await self._connect(connection, credentials)
        except BaseException as error:
            self._seats.leave(connection)
            if isinstance(error, GatewayError):
                return handshake.refuse(refuse(error))
            raise
        self._heartbeats.add(connection)
        return handshake.accept(connection.stream)

    async def open_early(self, log_in: LogIn) -> None:
        """Like `open`, for a handshake that has no aiohttp handler."""
        try:
            await self.open(log_in)
        except BaseException:
            log_in.handshake.refuse(web.Response(status=500))
            raise

    async def resume(self, connection: PlainConnection, username: str, data: bytes) -> None:
        """Log a client in with its first frame, which names the session to resume. A refusal is a reply."""
        ref: Reply = {}
        try:
            value = read_object(data)
            if value is None or value.get("action") != RESUME:
                raise InvalidPayload(f'The first frame must be one JSON object with the action "{RESUME}".')
            ref = read_ref(data, value)
            await self._connect(connection, load_credentials({**value, "username": username}))
        except GatewayError as error:
            connection.refuse(ref, error)
            return
        self._heartbeats.add(connection)
        connection.write(text_frame(reply_object(ref, {"ok": True})))

    async def _connect(self, connection: PlainConnection, credentials: Credentials) -> None:
        if credentials.pid is not None:
            connection.may_know_pid = True
        await self._sessions.connect(connection, credentials)
