"""The requests of a client on long-polling, polls and bodies, and what they do to its session."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.servers.engineio.packets import CLOSE
from gateway.servers.engineio.polling import BodyTimeout, BodyTooLarge, read_body
from gateway.servers.http.watch import ConnectionWatch, is_lost
from gateway.servers.msgpack import MsgpackRefused

if TYPE_CHECKING:
    from gateway.servers.engineio.replies import Replies
    from gateway.servers.engineio.socket import EngineSocket


class PollRequests:
    """Handles those of one server."""

    def __init__(self, replies: Replies, reason: Any) -> None:
        """``reason``: python-engineio's reasons for the end of a session."""
        self._replies = replies
        self._reason = reason

    async def poll(self, request: web.Request, socket: EngineSocket) -> web.Response:
        """Reply with what there is for the client, once there is something. A second poll closes the session."""
        if socket.closed:
            return self._replies.respond(request, socket.take_rest())
        polling = socket.polling
        if polling is None:
            return self._replies.refuse(request, "request")
        if polling.is_polled:
            polling.take_all()
            polling.write(CLOSE)  # the reply to the poll before
            socket.close(self._reason.TRANSPORT_ERROR)
            return self._replies.refuse(request, "request")
        socket.polled()
        return self._replies.respond(request, await polling.poll(request), polling=polling)

    async def post(self, request: web.Request, socket: EngineSocket, limit: int) -> web.Response:
        """Take a body of at most ``limit`` bytes."""
        polling = socket.polling
        if request.method != "POST" or polling is None or polling.posting or socket.closed:
            if not socket.upgraded:
                socket.close(self._reason.TRANSPORT_ERROR)
            return self._replies.refuse(request, "request")
        polling.body_begins(request.transport)
        try:
            body = await read_body(request, polling, limit)
            polling.body_is_whole()
            with ConnectionWatch(request, partial(socket.request_lost, poll=False)):
                await socket.inbox.take_body(polling, body)
        except ConnectionError as error:
            error.__traceback__ = None  # aiohttp keeps the error with the request; the body is not to stay with it
            socket.request_lost(poll=False)
            return self._replies.refuse(request, "request")
        except (ValueError, web.RequestPayloadError, BodyTooLarge, BodyTimeout) as error:
            error.__traceback__ = None  # as above
            socket.close(self._reason.TRANSPORT_ERROR)
            return self._refuse_body(request, error, limit)
        except asyncio.CancelledError:
            socket.close(self._reason.TRANSPORT_CLOSE if is_lost(request) else self._reason.TRANSPORT_ERROR)
            raise
        finally:
            polling.body_ended()
        if polling.dropped:
            return self._replies.refuse(request, "request", why="more was to be read than the client has read")
        return self._replies.respond(request, b"ok", polling=polling, poll=False)

    def _refuse_body(self, request: web.Request, error: Exception, limit: int) -> web.Response:
        if isinstance(error, BodyTooLarge):
            return self._replies.too_large(request, limit)
        status = 408 if isinstance(error, BodyTimeout) else 400
        why = error if isinstance(error, BodyTimeout | MsgpackRefused) else ""
        return self._replies.refuse(request, "request", why=why, status=status)
