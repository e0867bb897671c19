"""Imports go one way: downwards in the drawing of docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import gateway

pytestmark = pytest.mark.fast

PACKAGE = Path(gateway.__file__).parent

LAYERS = [
    ["__main__"],
    ["cli"],
    ["commands.asyncapi", "commands.backup", "commands.launch", "commands.migrate"],
    ["commands.serve", "workers.supervisor"],
    ["app", "commands.advice", "workers.child", "workers.program"],
    ["options", "signals", "workers.assignment", "workers.backoff", "workers.valkey"],
    ["wires.socketio.namespace", "wires.plain.route", "health", "web"],
    ["wires.plain.login", "wires.socketio.connection"],
    ["wires.plain.connection", "wires.plain.refusals"],
    ["wires.connection", "wires.plain.formats"],
    ["access.origins", "pipeline"],
    ["access.limits", "chat", "shutdown", "payloads", "sessions"],
    ["delivery", "rules.store"],
    ["manager", "rules.messages", "rules.people", "rules.sessions"],
    ["connections", "rules.recovery", "rules.rooms"],
    ["engines.sqlite.engine", "engines.sqlite.backup", "engines.valkey.engine"],
    ["engines.valkey.appends", "engines.valkey.batches"],
    ["engines.valkey.exporter", "engines.valkey.importer", "engines.valkey.runs", "engines.valkey.transaction"],
    ["engines.valkey.history", "engines.valkey.members", "engines.valkey.rooms", "engines.valkey.sessions"],
    ["engines.valkey.draft"],
    ["engines.valkey.hub", "engines.valkey.visit", "engines.valkey.workspace"],
    ["engines.valkey.channels", "engines.valkey.cluster", "engines.valkey.messages", "engines.valkey.records"],
    ["engines.valkey.node"],
    [
        "engines.valkey.calls",
        "engines.valkey.clock",
        "engines.valkey.server",
        "engines.valkey.subscription",
        "engines.valkey.waiters",
    ],
    ["engines.valkey.link"],
    ["engines.valkey.address"],
    ["engines.valkey.scripts", "engines.valkey.sentinel"],
    ["engines.sqlite.commits", "engines.sqlite.exporter", "engines.sqlite.importer", "engines.sqlite.transaction"],
    ["engines.sqlite.database", "engines.sqlite.members", "engines.sqlite.fairqueue"],
    ["engines.sqlite.history", "engines.sqlite.rooms", "engines.sqlite.sessions"],
    ["engines.sqlite.log", "engines.sqlite.space", "engines.sqlite.checkpoints", "engines.sqlite.departures"],
    ["engines.sqlite.trimming", "engines.sqlite.watch"],
    ["engines.sqlite.clocks", "engines.sqlite.epochs", "engines.sqlite.spans"],
    ["engines.sqlite.files", "engines.sqlite.walindex"],
    ["engines.base", "engines.dump", "engines.epochs", "observe", "openfiles", "tasks"],
    ["engines.transaction"],
    ["engines.effects"],
    ["access.actors", "access.buckets", "config"],
    ["addresses", "errors", "events", "listening", "logs", "memory", "tokens"],
    ["streams", "workers.tether"],
    # The protocol, as data.
    ["protocol.asyncapi"],
    ["protocol.login"],
    ["protocol.actions"],
    ["protocol.events"],
    ["protocol.shapes", "protocol.schemas"],
    ["protocol.fields"],
    ["protocol.closecodes", "protocol.errors", "protocol.limits", "protocol.names", "protocol.offsets"],
    # The servers, for any application.
    ["servers"],
    ["servers.socketio.server"],
    ["servers.socketio.engine", "servers.socketio.adminqueue", "servers.socketio.joining", "servers.socketio.manager"],
    ["servers.engineio.forwarding", "servers.engineio.server", "servers.socketio.reader"],
    ["servers.socketio.peers"],
    ["servers.socketio.attachments", "servers.socketio.clients"],
    ["servers.engineio.handshakes", "servers.engineio.pollrequests"],
    ["servers.engineio.replies", "servers.engineio.socket", "servers.socketio.packets"],
    ["servers.engineio.inbox", "servers.engineio.transports"],
    ["servers.engineio.polling", "servers.engineio.state", "servers.engineio.upgrade"],
    ["servers.engineio.nodes", "servers.engineio.packets", "servers.http.upgrades"],
    ["servers.http.crossorigin", "servers.http.runner", "servers.websocket.handshake"],
    ["servers.http.watch", "servers.websocket.relay", "servers.websocket.stream"],
    ["servers.heartbeats", "servers.inorder", "servers.limits", "servers.seats"],
    ["servers.backlog", "servers.budget", "servers.cork"],
    ["servers.http.compression", "servers.http.proxies", "servers.http.signatures", "servers.websocket.rfc6455"],
    ["servers.handlers", "servers.hooks", "servers.jsonio", "servers.msgpack", "servers.notices"],
    ["servers.deadline", "servers.pauses", "servers.states"],
    # Packages, which import nothing.
    [
        "",
        "access",
        "commands",
        "engines",
        "engines.sqlite",
        "engines.valkey",
        "protocol",
        "rules",
        "servers.engineio",
        "servers.http",
        "servers.socketio",
        "servers.websocket",
        "workers",
        "wires",
        "wires.plain",
        "wires.socketio",
    ],
]
"""Modules of the package, top to bottom. A module imports from the lines below its own."""

OUTSIDE = {
    "chat": {"orjson"},
    "payloads": {"marshmallow"},
    "pipeline": set(),
    "access.limits": set(),
    "observe": set(),
    "sessions": set(),
    "engines.base": set(),
    "engines.effects": set(),
    "engines.transaction": set(),
    "rules.messages": set(),
    "rules.people": set(),
    "rules.recovery": set(),
    "rules.rooms": {"orjson"},
    "rules.sessions": set(),
    "rules.store": set(),
}
"""Third-party packages that a module may import, where it is a promise: the core knows no socket and no SQL."""

DEPTH = {module: depth for depth, modules in enumerate(LAYERS) for module in modules}
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}


def imports_of(path: Path) -> set[str]:
    """The full names of the modules that a file imports, for type checking or at run time."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used"
            base = node.module or ""
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def internal(names: set[str]) -> set[str]:
    modules = {name.removeprefix("gateway").removeprefix(".") for name in names if name.split(".")[0] == "gateway"}
    return {module for module in modules if module in FILES and module}


def test_every_module_is_in_the_layers() -> None:
    """A new module is put into the drawing."""
    assert set(FILES) == set(DEPTH)


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_go_downwards(module: str) -> None:
    """No module imports from its own line or from one above it."""
    for imported in internal(imports_of(FILES[module])):
        assert DEPTH[imported] > DEPTH[module], f"{module or 'gateway'} imports {imported}"


@pytest.mark.parametrize("module", sorted(OUTSIDE))
def test_the_core_is_free_of_wires_and_storage(module: str) -> None:
    """The use cases, the schemas and the engine contract know neither sockets nor SQL."""
    known = {
        *(
            "__future__",
            "asyncio",
            "collections",
            "contextlib",
            "dataclasses",
            "enum",
            "functools",
            "hmac",
            "re",
            "time",
            "typing",
            "gateway",
        ),
        *OUTSIDE[module],
    }
    assert {name.split(".")[0] for name in imports_of(FILES[module])} <= known


@pytest.mark.parametrize("module", sorted(module for module in FILES if module.split(".")[0] == "servers"))
def test_the_servers_import_nothing_else_of_the_gateway(module: str) -> None:
    """They are for any application: what they import of the package is theirs."""
    assert {imported.split(".")[0] for imported in internal(imports_of(FILES[module]))} <= {"servers"}


@pytest.mark.parametrize("module", sorted(module for module in FILES if module.split(".")[0] == "protocol"))
def test_the_protocol_imports_nothing_else_of_the_gateway(module: str) -> None:
    """The declarations depend on nothing that uses them."""
    imported = imports_of(FILES[module])
    assert {name.split(".")[0] for name in internal(imported)} <= {"protocol"}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names <= {"gateway", "marshmallow", "regex"}
