"""The route ``/username/{name}``: the two entrances of a handshake, and what a client's frames ask for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError, InvalidPayload, InvalidUsername
from gateway.pipeline import refusal
from gateway.protocol.fields import is_username
from gateway.servers.websocket.rfc6455 import CloseCode
from gateway.wires.plain.formats import read_object, read_ref
from gateway.wires.plain.login import LogIns
from gateway.wires.plain.refusals import NoUpgrade, check_handshake, refuse

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.access.origins import OriginPolicy
    from gateway.pipeline import Pipeline
    from gateway.servers.heartbeats import Heartbeats
    from gateway.servers.limits import Limits
    from gateway.servers.seats import Seats
    from gateway.servers.websocket.handshake import Handshake
    from gateway.sessions import Sessions
    from gateway.wires.plain.connection import PlainConnection

LEAVING_CODES: Final = frozenset({CloseCode.NORMAL, CloseCode.NO_STATUS})
"""Close codes of a client that leaves on purpose: 1000, or none at all."""


class PlainRoute:
    """Serves the plain wire: the `Host` of its connections."""

    def __init__(
        self,
        sessions: Sessions,
        pipeline: Pipeline,
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
        self._pipeline = pipeline
        self._seats = seats
        self._log_ins = LogIns(sessions, origins, heartbeats, seats)
        self._prefix = ""

    # --- handshakes

    def add_to(self, app: web.Application, base: str = "") -> None:
        """Serve ``/username/{name}``, below ``base``."""
        self._prefix = f"{base}/username/"
        app.router.add_get(f"{self._prefix}{{name}}", self.handle, allow_head=False)
        app.router.add_route("*", f"{self._prefix}{{rest:.*}}", _unknown_path)

    def take_handshake(self, handshake: Handshake) -> bool:
        """Serve a handshake that aiohttp has not seen (`upgrades.TakeHandshake`). What is refused before the store is
        asked is left to `handle`.
        """
        request = handshake.request
        if request.method != "GET" or not request.path.startswith(self._prefix):
            return False
        name = request.path.removeprefix(self._prefix)
        try:
            log_in = self._log_ins.prepare(handshake, self, self._log_ins.check(request, name), name)
        except GatewayError:
            return False
        log_in.connection.log_in(partial(self._log_ins.open_early, log_in))
        return True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a request that aiohttp has routed here."""
        name = request.match_info["name"]
        try:
            wire = self._log_ins.check(request, name)
            log_in = self._log_ins.prepare(check_handshake(request), self, wire, name)
        except GatewayError as error:
            return refuse(error)
        return await self._log_ins.open(log_in)

    # --- the `Host` of a connection

    async def resume(self, connection: PlainConnection, username: str, data: bytes) -> None:
        await self._log_ins.resume(connection, username, data)

    async def reply_to(self, connection: PlainConnection, data: bytes) -> bytes:
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
        reply = await self._pipeline.perform(connection.actor, action, value)
        return wire.encode_reply(data, action, ref, reply)

    def closing(self, connection: PlainConnection) -> None:
        self._seats.leave(connection)
        if connection.session is None:
            self._sessions.abandon(connection)

    def end(self, connection: PlainConnection, code: int) -> None:
        self.heartbeats.remove(connection)
        if code in LEAVING_CODES:
            self._sessions.end(connection)
        else:
            self._sessions.lose(connection)


async def _unknown_path(request: web.Request) -> web.Response:
    """Reply to a request whose path is not a username, or whose method is not GET."""
    if is_username(request.match_info["rest"]):
        return refuse(NoUpgrade(f"This is a WebSocket; connect with ws:// or wss:// (RFC 6455), not {request.method}."))
    return refuse(InvalidUsername())
