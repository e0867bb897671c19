"""Imports go one way: downwards in the drawing of docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway

PACKAGE = Path(gateway.__file__).parent

LAYERS = [
    ["__main__"],
    ["cli"],
    ["commands.backup", "commands.serve"],
    ["app", "options", "signals"],
    ["transports", "transports.socketio", "transports.websocket", "health", "web"],
    ["transports.connection", "transports.socketserver"],
    ["transports.adminqueue", "transports.engineio", "transports.packetreader"],
    ["transports.socketpackets"],
    ["transports.handshakes", "transports.pollrequests", "transports.probe"],
    ["transports.enginereplies", "transports.enginesocket"],
    ["transports.polling"],
    ["transports.enginepackets", "transports.stream"],
    [
        "transports.backlog",
        "transports.budget",
        "transports.heartbeats",
        "transports.inorder",
        "transports.upgrades",
        "transports.watch",
    ],
    ["actions", "transports.httpserver", "transports.origins", "transports.seats"],
    [
        "transports.compression",
        "transports.crossorigin",
        "transports.handlers",
        "transports.jsonio",
        "transports.msgpack",
        "transports.notices",
    ],
    ["transports.proxies", "transports.rfc6455"],
    ["chat", "departure", "sessions"],
    ["delivery", "engines.sqlite.engine", "engines.sqlite.backup"],
    ["engines.sqlite.commits", "engines.sqlite.tables"],
    ["engines.sqlite.database"],
    ["engines.sqlite.direct", "engines.sqlite.sessions", "engines.sqlite.turns"],
    ["engines.sqlite.rooms", "engines.sqlite.replay"],
    ["engines.sqlite.departures", "engines.sqlite.history", "engines.sqlite.members"],
    ["engines.sqlite.log", "engines.sqlite.space", "engines.sqlite.checkpoints"],
    ["engines.sqlite.trimming", "engines.sqlite.watch"],
    ["engines.sqlite.clocks", "engines.sqlite.epochs", "engines.sqlite.spans"],
    ["engines.sqlite.files", "engines.sqlite.walindex"],
    ["engines.base", "openfiles", "tasks", "schemas"],
    ["config"],
    ["addresses", "buckets", "errors", "events", "listening", "logs", "names", "offsets", "tokens"],
    ["streams"],
    ["", "commands", "engines", "engines.sqlite"],
]
"""Modules of the package, top to bottom. A module imports from the lines below its own."""

OUTSIDE = {
    "chat": {"orjson"},
    "schemas": {"marshmallow"},
    "sessions": set(),
    "engines.base": set(),
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


def test_every_module_has_its_place() -> None:
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
            "re",
            "time",
            "typing",
            "gateway",
        ),
        *OUTSIDE[module],
    }
    assert {name.split(".")[0] for name in imports_of(FILES[module])} <= known
