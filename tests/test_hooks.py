"""The private methods of the Socket.IO libraries that we override or call are still there, with their parameters."""

from __future__ import annotations

import inspect

import engineio
import pytest
import socketio
from engineio.async_drivers import aiohttp as driver
from engineio.async_socket import AsyncSocket
from socketio.async_manager import AsyncManager

HOOKS = [
    (engineio.AsyncServer, "create_queue", ["args", "kwargs"]),
    (engineio.AsyncServer, "shutdown", []),
    (engineio.AsyncServer, "_log_error_once", ["message", "message_key"]),
    (AsyncSocket, "_websocket_handler", ["ws"]),
    (AsyncSocket, "poll", []),
    (AsyncSocket, "close", ["wait", "abort", "reason"]),
    (driver.WebSocket, "__init__", ["handler", "server"]),
    (driver.WebSocket, "__call__", ["environ"]),
    (driver.WebSocket, "wait", []),
    (socketio.AsyncServer, "_engineio_server_class", []),
    (socketio.AsyncServer, "_send_packet", ["eio_sid", "pkt"]),
    (socketio.AsyncServer, "_handle_eio_message", ["eio_sid", "data"]),
    (socketio.AsyncServer, "_handle_eio_disconnect", ["eio_sid", "reason"]),
    (socketio.AsyncServer, "_handle_connect", ["eio_sid", "namespace", "data"]),
    (socketio.AsyncServer, "_handle_disconnect", ["eio_sid", "namespace", "reason"]),
    (socketio.AsyncServer, "_handle_event", ["eio_sid", "namespace", "id", "data"]),
    (
        socketio.AsyncServer,
        "_handle_event_internal",
        ["server", "sid", "eio_sid", "data", "namespace", "id"],
    ),
    (socketio.AsyncServer, "_handle_ack", ["eio_sid", "namespace", "id", "data"]),
    (socketio.AsyncServer, "_trigger_event", ["event", "namespace", "args"]),
    (AsyncManager, "pre_connect", ["eio_sid", "namespace"]),
    (AsyncManager, "connect", ["sid", "namespace"]),
    (AsyncManager, "basic_enter_room", ["sid", "namespace", "room", "eio_sid"]),
    (AsyncManager, "basic_leave_room", ["sid", "namespace", "room"]),
    (AsyncManager, "basic_disconnect", ["sid", "namespace", "kwargs"]),
    (AsyncManager, "is_sid_room", ["namespace", "room"]),
    (AsyncManager, "get_participants", ["namespace", "room"]),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), HOOKS, ids=lambda value: getattr(value, "__name__", value))
def test_a_hook_is_where_we_expect_it(owner: type, name: str, parameters: list[str]) -> None:
    """An upgrade of the libraries that moves a hook fails here, not in production."""
    signature = inspect.signature(getattr(owner, name))
    assert [parameter for parameter in signature.parameters if parameter != "self"] == parameters


def test_the_driver_is_a_table_of_hooks() -> None:
    """`EngineServer` replaces two of its entries."""
    assert {"translate_request", "websocket", "make_response"} <= set(driver._async)
