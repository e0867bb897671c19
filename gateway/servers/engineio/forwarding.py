"""Requests of sessions that are on other nodes: passed on there, and the reply back to the client.

A poll, a body or another request goes over HTTP connections that are kept for the next one; the WebSocket of an upgrade
becomes a `Relay`. What a node sends to another is signed with a secret that only nodes have, and is never passed on
again. The node of the session sees a client go as if it were connected there: the connection of its request is closed,
and the loss is reported besides, for the reply may have been on its way.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from gateway.servers.engineio.nodes import NotForwarded, Via
from gateway.servers.engineio.polling import BODY_TIMEOUT
from gateway.servers.hooks import writer_of
from gateway.servers.http.signatures import sign, verify
from gateway.servers.http.watch import ConnectionWatch, is_lost
from gateway.servers.notices import Notice
from gateway.servers.websocket.handshake import Handshake
from gateway.servers.websocket.relay import NotAccepted, Relay, send_handshake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HEADER: Final = "X-Gateway-Forwarded"
"""Marks a request that another node has sent; its value is the signature (`signatures.sign`)."""

CONNECT_TIMEOUT: Final = 2.0
"""How long connecting to another node may take, in seconds."""

HANDSHAKE_TIMEOUT: Final = 5.0
"""How long another node may take to accept a WebSocket, with the time to connect, in seconds."""

REPLY_TIMEOUT: Final = 45.0
"""How long another node may send nothing before all of its reply is there, in seconds: a poll is replied to with a ping
at the latest, so this is Engine.IO's ping interval and ping timeout together.
"""

KEEP_ALIVE: Final = 10.0
"""How long a connection to another node is kept for the next request, in seconds. Shorter than servers keep theirs, so
that a body is rarely sent on a connection that is being closed.
"""

MAX_FORWARDED: Final = 10_000
"""Requests and WebSockets that are forwarded at once. Each takes two file descriptors."""

CHECK_ADDRESSES: Final = "check the addresses that the nodes announce, and that each node can reach them"
CHECK_KEYS: Final = "check that all nodes have one secret; else this is a client that pretends to be a node"

_CLAIMS: Final[dict[str | None, Via]] = {via.value: via for via in (Via.NODE, Via.LOST)}

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are for one connection (RFC 9110, section 7.6.1), in lower case."""

logger = logging.getLogger(__name__)


class Directory(Protocol):
    """What a node knows of itself and of the others."""

    @property
    def node(self) -> str:
        """The id of this node. It may change, with that of sessions which begin later."""

    @property
    def secret(self) -> bytes:
        """What all nodes know, and nobody else."""

    def address_of(self, node: str) -> str | None:
        """``host:port``, where a node can be reached by HTTP; None if it is gone, or has announced none."""

    def now(self) -> float:
        """The time in seconds, by a clock that all nodes share: those of their machines may differ."""


class Forwarding:
    """Passes requests on to other nodes (`nodes.Forwarder`), and keeps their relays (`relay.Owner`)."""

    def __init__(
        self, directory: Directory, *, reply_timeout: float = REPLY_TIMEOUT, limit: int = MAX_FORWARDED
    ) -> None:
        """``reply_timeout``: in place of `REPLY_TIMEOUT`, where the servers have other ping intervals and timeouts.
        ``limit``: how many requests and WebSockets may be forwarded at once; others are refused.
        """
        self._directory = directory
        self._reply_timeout = reply_timeout
        self._limit = limit
        self._open: set[_Exchange | Relay] = set()
        self._closed = False
        self._client: aiohttp.ClientSession | None = None
        self._unreachable = Notice(logger, "cannot reach another node", CHECK_ADDRESSES)
        self._unsigned = Notice(logger, "a request claims to come from another node, and does not", CHECK_KEYS)

    @property
    def node(self) -> str:
        return self._directory.node

    @property
    def count(self) -> int:
        """How many requests and WebSockets are being forwarded."""
        return len(self._open)

    def drop(self, node: str) -> None:
        """A node is gone: end what is being forwarded to it, so that its clients do not wait for it."""
        for forwarded in tuple(self._open):
            if forwarded.node == node:
                forwarded.end()

    async def close(self) -> None:
        self._closed = True
        for forwarded in tuple(self._open):
            forwarded.end()
        if self._client is not None:
            await self._client.close()

    def relay_ended(self, relay: Relay) -> None:
        self._open.discard(relay)

    # --- in

    def via(self, request: web.BaseRequest) -> Via:
        signature = request.headers.get(HEADER)
        if signature is None:
            return Via.CLIENT
        directory = self._directory
        parts = _signed_parts(request.method, request, request.headers)
        claim = verify(directory.secret, directory.now(), signature, parts)
        if claim is None:
            self._unsigned.give(address=request.remote)
        return _CLAIMS.get(claim, Via.CLIENT)

    # --- out

    async def forward(self, request: web.Request, node: str) -> web.StreamResponse:
        if HEADER in request.headers:
            raise NotForwarded("session")  # whoever has sent it: no request is passed on twice
        if self._closed:
            raise NotForwarded("stopping")
        if len(self._open) >= self._limit:
            raise NotForwarded("full")
        address = self._directory.address_of(node)
        if address is None or not _is_text(_target(request)):
            raise NotForwarded("session")
        try:
            if request.query["transport"] == "websocket":
                return await self._forward_handshake(request, node, address)
            return await self._forward_request(request, node, address)
        except NotAccepted:
            raise NotForwarded("session") from None  # the client's polls will learn from the node what is wrong
        except (aiohttp.ClientError, OSError) as error:
            if self._closed:
                raise NotForwarded("stopping") from None
            if not is_lost(request) and request.content.exception() is None:
                self._unreachable.give(node=node, address=address, problem=f"{type(error).__name__}: {error}"[:200])
            raise NotForwarded("session") from None

    @asynccontextmanager
    async def _exchange(self, request: web.Request, node: str) -> AsyncIterator[_Exchange]:
        """A context in which another node is waited for, until the client goes away, or `drop` or `close` ends it."""
        scope = asyncio.timeout(None)
        exchange = _Exchange(node, scope)
        try:
            async with scope:
                self._open.add(exchange)
                with ConnectionWatch(request, exchange.end):
                    yield exchange
        except TimeoutError:
            if exchange.ended:
                raise NotForwarded("stopping" if self._closed else "session") from None
            raise
        finally:
            self._open.discard(exchange)

    async def _forward_handshake(self, request: web.Request, node: str, address: str) -> web.StreamResponse:
        handshake = Handshake(request)
        head = _handshake_head(request, self._sign("GET", request, _end_to_end(request.headers), Via.NODE))
        url = URL(f"http://{address}")
        async with self._exchange(request, node), asyncio.timeout(HANDSHAKE_TIMEOUT):
            upstream, unread = await send_handshake(url.host or "", url.port or 80, head)
        relay = Relay(self, node, upstream, unread)
        self._open.add(relay)
        return handshake.accept(relay)

    async def _forward_request(self, request: web.Request, node: str, address: str) -> web.StreamResponse:
        headers = self._sign(request.method, request, _end_to_end(request.headers), Via.NODE)
        body = request.content if request.body_exists else None
        has_reply = False
        try:
            sending = self._request(request.method, request, address, headers=headers, data=body)
            async with self._exchange(request, node), sending as reply:
                response = await _pass_back(request, reply)
                has_reply = True
            return response
        finally:
            if not has_reply and is_lost(request):
                await self._report_lost(request, address)

    async def _report_lost(self, request: web.Request, address: str) -> None:
        """Report to the node of the session that its client did not get the reply to ``request``."""
        if self._closed:
            return
        headers = self._sign("DELETE", request, CIMultiDict(), Via.LOST)
        with suppress(aiohttp.ClientError, OSError):
            async with self._request("DELETE", request, address, headers=headers) as reply:
                await reply.read()

    def _request(self, method: str, request: web.Request, address: str, **options: Any) -> Any:
        """Send a request to another node; the context manager of its reply."""
        if self._client is None:
            self._client = _new_client()
        whole = None if method == "GET" else self._reply_timeout + BODY_TIMEOUT
        timeout = aiohttp.ClientTimeout(total=whole, connect=CONNECT_TIMEOUT, sock_read=self._reply_timeout)
        url = URL(f"http://{address}{_target(request)}", encoded=True)
        return self._client.request(method, url, timeout=timeout, allow_redirects=False, **options)

    def _sign(self, method: str, request: web.Request, headers: CIMultiDict[str], via: Via) -> CIMultiDict[str]:
        """Add the client's address and the signature to ``headers``, which are for another node."""
        if request.remote:
            known = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
            headers[hdrs.X_FORWARDED_FOR] = ", ".join((*known, request.remote))
        parts = _signed_parts(method, request, headers)
        headers[HEADER] = sign(self._directory.secret, self._directory.now(), via.value, parts)
        return headers


class _Exchange:
    """A request while another node is waited for."""

    __slots__ = ("_scope", "ended", "node")

    def __init__(self, node: str, scope: asyncio.Timeout) -> None:
        self.node = node
        self.ended = False
        self._scope = scope

    def end(self) -> None:
        """Stop waiting, as nobody needs the reply."""
        if not self.ended:
            self.ended = True
            self._scope.reschedule(0)


def _new_client() -> aiohttp.ClientSession:
    """A client that passes on what it is given: it adds no headers, keeps no cookies, unpacks no bodies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
    )


async def _pass_back(request: web.Request, reply: aiohttp.ClientResponse) -> web.StreamResponse:
    """Send the reply of another node to the client, as it comes, until the system has taken nearly all of it. If the
    rest does not come, the client's connection is closed, for its reply is not whole.

    Raises:
        OSError, aiohttp.ClientError: the client did not get it.
    """
    response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=_end_to_end(reply.headers))
    await response.prepare(request)
    try:
        async for chunk in reply.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        if (writer := writer_of(response)) is not None:
            await writer.drain()
        if is_lost(request):
            raise ConnectionResetError
    except BaseException:
        if request.transport is not None:
            request.transport.abort()
        raise
    return response


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Without the headers that are for one connection, and those that are not text."""
    dropped = _HOP_BY_HOP.union(name.strip().lower() for name in headers.get(hdrs.CONNECTION, "").split(","))
    kept = CIMultiDict[str]()
    for name, value in headers.items():
        if name.lower() not in dropped and _is_text(value):
            kept.add(name, value)
    return kept


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _handshake_head(request: web.Request, headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = [f"GET {_target(request)} HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", *lines, "", ""]
    return "\r\n".join(head).encode()


def _target(request: web.BaseRequest) -> str:
    """The path and the query, as the client has sent them."""
    return request.rel_url.raw_path_qs


def _signed_parts(method: str, request: web.BaseRequest, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What a signature covers: what is asked, on whose behalf, and from where."""
    signed = (hdrs.ORIGIN, hdrs.X_FORWARDED_FOR)
    return (method, _target(request), *(headers.get(name, "") for name in signed))
