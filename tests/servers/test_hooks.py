"""The private parts of the libraries that `gateway.servers.hooks` uses exist as it expects, and nothing else
uses any.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import socketio
from aiohttp import web, web_request
from aiohttp.web_protocol import RequestHandler
from socketio.async_admin import InstrumentedAsyncServer

import gateway
from gateway.servers import hooks

pytestmark = pytest.mark.fast

LIBRARIES = ("aiohttp", "engineio", "socketio")
PACKAGE = Path(gateway.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PRIVATE_MODULES = ("aiohttp.web_protocol", "engineio.async_drivers", "socketio.async_admin")
NAMES = {name for _, name, _ in (*hooks.OVERRIDDEN, *hooks.CALLED)}

OF_TUPLES = {"_make", "_replace"}
"""Methods of named tuples, which are public in spite of their names."""

HANDSHAKE = b"GET /x?y=z HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


# --- what the libraries have


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [*hooks.OVERRIDDEN, *hooks.CALLED],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_private_method_we_use_exists(owner: type, name: str, parameters: list[str]) -> None:
    """An upgrade of the libraries that moves one fails here, not in production."""
    signature = inspect.signature(getattr(owner, name))
    assert [parameter for parameter in signature.parameters if parameter != "self"] == parameters


def test_every_attribute_of_a_connection_we_use_exists() -> None:
    """`hooks.Connection` and `hooks.detach_transport` read and set attributes that are there."""
    slots = {name for owner in RequestHandler.__mro__ for name in getattr(owner, "__slots__", ())}
    assert slots >= hooks.CONNECTION_STATE


def test_the_options_of_a_server_can_be_read() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def options() -> dict[str, Any]:
        return hooks.connection_options(web.Server(handle, keepalive_timeout=3.0, max_field_size=77))

    assert asyncio.run(options()) == {"keepalive_timeout": 3.0, "max_field_size": 77}


class Peer:
    """A `hooks.RequestConnection`."""

    transport = ssl_context = peername = sockname = None

    def pause_reading(self) -> None: ...

    def resume_reading(self, *, resume_parser: bool = True) -> None: ...


def test_a_handshake_becomes_a_request_of_aiohttp() -> None:
    """As aiohttp does it for its own connections, from the head to the request of an application."""

    async def parse() -> web.BaseRequest:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        server = runner.server
        assert isinstance(server, web.Server)
        found = hooks.parse_handshake(HANDSHAKE, Peer(), {"max_field_size": 100})
        assert found is not None
        request = hooks.make_request(server, *found, Peer())
        await runner.cleanup()
        return request

    request = asyncio.run(parse())
    assert (request.method, request.path, request.query["y"], request.headers["Host"]) == ("GET", "/x", "z", "a")
    assert request.transport is None
    assert request.remote is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 101 + HANDSHAKE[16:],
        b"nonsense\r\n\r\n",
    ],
    ids=["no upgrade", "too long", "no HTTP"],
)
def test_bytes_that_are_not_a_handshake_are_not_parsed(head: bytes) -> None:
    async def parse() -> object:
        return hooks.parse_handshake(head, Peer(), {"max_field_size": 100})

    assert asyncio.run(parse()) is None


def test_a_request_asks_its_connection_for_nothing_else() -> None:
    """`hooks.RequestConnection` has all that aiohttp's `BaseRequest` asks of what stands in for a connection,
    but for what it asks when it reads a multipart body.
    """
    asked = set(re.findall(r"protocol\.([a-z]\w*)", inspect.getsource(web_request.BaseRequest)))
    offered = {name for name in vars(hooks.RequestConnection) if not name.startswith("_")}
    assert "transport" in asked
    assert asked - {"max_field_size", "max_headers"} <= offered


def test_the_body_of_a_connection_can_be_replaced() -> None:
    """aiohttp reports a lost connection to the body that was put there."""

    async def exchange() -> BaseException | None:
        found = hooks.parse_handshake(HANDSHAKE, Peer(), {})
        assert found is not None
        request = web.BaseRequest(*found, Peer(), None, None, asyncio.get_running_loop())  # type: ignore[arg-type]
        stand_in = FailedBody()
        before = hooks.exchange_body(request, stand_in)
        assert before is found[1]
        request._cancel(ConnectionResetError())
        return stand_in.failure

    assert isinstance(asyncio.run(exchange()), ConnectionResetError)


class FailedBody(web_request.StreamReader):
    """A body that records the error that it is given."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        self.failure = exc


def test_a_manager_keeps_rooms_callbacks_and_pending_clients() -> None:
    """Its rooms by sid, its callbacks, and that it is connecting or disconnecting."""

    async def play() -> None:
        server = socketio.AsyncServer(async_mode="aiohttp")
        manager = server.manager
        sid = await manager.pre_connect("transport", "/")
        manager.basic_enter_room(sid, "/", "tea")
        assert dict(hooks.members_of(manager, "/", "tea")) == {sid: "transport"}
        assert not hooks.members_of(manager, "/", "coffee")
        assert not hooks.members_of(manager, "/other", "tea")
        manager.callbacks[sid] = {1: print}
        assert manager.is_pre_connected(sid, "/")
        hooks.drop_client(manager, sid, "/")
        assert sid not in manager.callbacks
        assert not manager.is_pre_connected(sid, "/")
        assert manager.is_connected(sid, "/")
        manager.pre_disconnect(sid, "/")
        assert not manager.is_connected(sid, "/")
        hooks.drop_client(manager, sid, "/")
        assert manager.is_connected(sid, "/")

    asyncio.run(play())


def test_the_admin_ui_keeps_its_queue_where_we_bound_it() -> None:
    """`SocketServer.instrument` puts another list in the place of ``admin_queue``, and relies on the handler of
    ``connect`` that is set there.
    """
    source = inspect.getsource(InstrumentedAsyncServer)
    assert "self.admin_queue.append(" in source
    assert "self.admin_queue.pop(0)" in source
    assert "self.sio.eio.on('connect', self._handle_eio_connect)" in source


# --- what we touch


def library_classes() -> list[type]:
    """Our classes that extend one of a library."""
    names = [module.name for module in pkgutil.walk_packages(gateway.__path__, "gateway.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and any(map(is_of_a_library, value.__mro__))
    ]


def is_of_a_library(cls: type) -> bool:
    return cls.__module__.split(".")[0] in LIBRARIES


def test_every_private_override_is_listed() -> None:
    """A private method of a library that one of our classes overrides is listed, and watched."""
    missing = []
    for cls in library_classes():
        listed = {name for owner, name, _ in hooks.OVERRIDDEN if owner in cls.__mro__}
        theirs = {name for base in filter(is_of_a_library, cls.__mro__) for name in vars(base)}
        private = {name for name, value in vars(cls).items() if re.match("_[a-z]", name) and inspect.isfunction(value)}
        missing += [(cls.__name__, name) for name in private & theirs - listed]
    assert not missing


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def definitions(tree: ast.Module) -> set[str]:
    """The private names that a module gives to attributes, methods and slots."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_ones_own(node):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return {name for name in found if name.startswith("_")}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "hooks.py"], ids=lambda path: path.stem)
def test_private_attributes_are_used_only_in_hooks(path: Path) -> None:
    """Private attributes of other objects are used in ``hooks.py`` alone; a class uses its own, or is listed there."""
    tree = parsed(path)
    own = definitions(tree) | NAMES | {name for base in MODULES for name in _defined_in_base(base, tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            allowed = own if is_ones_own(node) else definitions(tree) | OF_TUPLES
            assert node.attr in allowed or ast.unparse(node) == "os._exit", f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            assert not [part for part in parts if part.startswith("_")], f"line {node.lineno}"
            assert node.module not in PRIVATE_MODULES, f"line {node.lineno}"


def is_ones_own(node: ast.Attribute) -> bool:
    """Whether it is an attribute of ``self`` or ``cls``, or what ``super()`` has."""
    return ast.unparse(node.value) in {"self", "cls", "super()"}


def _defined_in_base(base: Path, tree: ast.Module) -> set[str]:
    """What a module of ours defines that ``tree`` imports a class from."""
    name = ".".join(("gateway", *base.relative_to(PACKAGE).with_suffix("").parts))
    return definitions(parsed(base)) if name in imported_from(tree) else set()


@cache
def imported_from(tree: ast.Module) -> set[str | None]:
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
