"""The private methods of the Socket.IO libraries that we override or call are still there, with their parameters."""

from __future__ import annotations

import inspect

import engineio
import pytest
import socketio
from aiohttp import web
from aiohttp._websocket import helpers
from aiohttp.web_protocol import RequestHandler
from engineio.async_drivers import aiohttp as driver
from socketio import packet
from socketio.async_admin import InstrumentedAsyncServer
from socketio.async_manager import AsyncManager

HOOKS = [
    (engineio.AsyncServer, "attach", ["app", "engineio_path"]),
    (engineio.AsyncServer, "handle_request", ["args", "kwargs"]),
    (engineio.AsyncServer, "send", ["sid", "data"]),
    (engineio.AsyncServer, "send_packet", ["sid", "pkt"]),
    (engineio.AsyncServer, "disconnect", ["sid"]),
    (engineio.AsyncServer, "shutdown", []),
    (engineio.AsyncServer, "_trigger_event", ["event", "args", "kwargs"]),
    (engineio.AsyncServer, "_generate_sid_cookie", ["sid", "attributes"]),
    (engineio.AsyncServer, "_get_socket", ["sid"]),
    (engineio.AsyncServer, "generate_id", []),
    (socketio.AsyncServer, "_engineio_server_class", []),
    (socketio.AsyncServer, "_send_packet", ["eio_sid", "pkt"]),
    (socketio.AsyncServer, "_send_eio_packet", ["eio_sid", "eio_pkt"]),
    (socketio.AsyncServer, "_handle_eio_connect", ["eio_sid", "environ"]),  # `SocketServer._connected` stands in for it
    (socketio.AsyncServer, "_handle_eio_message", ["eio_sid", "data"]),
    (socketio.AsyncServer, "_handle_eio_disconnect", ["eio_sid", "reason"]),
    (socketio.AsyncServer, "_handle_connect", ["eio_sid", "namespace", "data"]),
    (socketio.AsyncServer, "_handle_disconnect", ["eio_sid", "namespace", "reason"]),
    (socketio.AsyncServer, "_handle_event", ["eio_sid", "namespace", "id", "data"]),
    (socketio.AsyncServer, "_handle_ack", ["eio_sid", "namespace", "id", "data"]),
    (socketio.AsyncServer, "_trigger_event", ["event", "namespace", "args"]),
    (socketio.AsyncServer, "_get_event_handler", ["event", "namespace", "args"]),
    (socketio.AsyncServer, "_get_namespace_handler", ["namespace", "args"]),
    (
        socketio.AsyncServer,
        "instrument",
        ["auth", "mode", "read_only", "server_id", "namespace", "server_stats_interval"],
    ),
    (socketio.AsyncServer, "disconnect", ["sid", "namespace", "ignore_queue"]),
    (socketio.AsyncNamespace, "trigger_event", ["event", "args"]),
    (InstrumentedAsyncServer, "_handle_eio_connect", ["eio_sid", "environ"]),
    (packet.Packet, "encode", []),
    (packet.Packet, "decode", ["encoded_packet"]),
    (packet.Packet, "add_attachment", ["attachment"]),
    (packet.Packet, "_reconstruct_binary_internal", ["data", "attachments"]),
    (AsyncManager, "disconnect", ["sid", "namespace", "kwargs"]),
    (AsyncManager, "pre_connect", ["eio_sid", "namespace"]),
    (AsyncManager, "connect", ["sid", "namespace"]),
    (AsyncManager, "basic_enter_room", ["sid", "namespace", "room", "eio_sid"]),
    (AsyncManager, "basic_leave_room", ["sid", "namespace", "room"]),
    (AsyncManager, "basic_disconnect", ["sid", "namespace", "kwargs"]),
    (AsyncManager, "is_sid_room", ["namespace", "room"]),
    (AsyncManager, "get_participants", ["namespace", "room"]),
    (driver, "translate_request", ["request"]),
    (web.BaseRequest, "_cancel", ["exc"]),
    (RequestHandler, "handle_error", ["request", "status", "exc", "message"]),
    (RequestHandler, "finish_response", ["request", "resp", "start_time"]),
    (RequestHandler, "_pause_transport_reading", []),
    (RequestHandler, "_process_keepalive", []),
    (web.Request, "_prepare_hook", ["response"]),
    (web.AppRunner, "_make_server", []),
    (web.Application, "_make_request", ["message", "payload", "protocol", "writer", "task", "_cls"]),
    (helpers, "websocket_mask", ["mask", "data"]),
]

ATTRIBUTES = {
    "_message_tail",
    "_buffer_paused",
    "_reading_paused",
    "_messages",
    "_upgraded",
    "_waiter",
    "_current_request",
    "_request_count",
    "_keepalive_handle",
    "transport",
}
"""What `take_over` and `HTTPConnection` read and set of aiohttp's connection."""


@pytest.mark.parametrize(("owner", "name", "parameters"), HOOKS, ids=lambda value: getattr(value, "__name__", value))
def test_a_hook_is_where_we_expect_it(owner: type, name: str, parameters: list[str]) -> None:
    """An upgrade of the libraries that moves a hook fails here, not in production."""
    signature = inspect.signature(getattr(owner, name))
    assert [parameter for parameter in signature.parameters if parameter != "self"] == parameters


def test_the_admin_ui_keeps_its_queue_where_we_bound_it() -> None:
    """`SocketServer.instrument` puts another list in the place of ``admin_queue``, and relies on the handler of
    ``connect`` that is set there.
    """
    source = inspect.getsource(InstrumentedAsyncServer)
    assert "self.admin_queue.append(" in source
    assert "self.admin_queue.pop(0)" in source
    assert "self.sio.eio.on('connect', self._handle_eio_connect)" in source


def test_aiohttp_lets_go_of_a_connection() -> None:
    """`take_over` and `HTTPConnection` find what they need of aiohttp's protocol class."""
    slots = {name for owner in RequestHandler.__mro__ for name in getattr(owner, "__slots__", ())}
    assert slots >= ATTRIBUTES
