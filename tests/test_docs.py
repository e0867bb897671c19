"""docs/protocol.md agrees with the tests, and the gateway behaves as it shows."""

from __future__ import annotations

import json
import re
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.protocol.actions import ACTIONS
from gateway.servers import SocketServer
from harness.client import Join, succeed
from test_events import STORED, VOLATILE

ROOT = Path(__file__).parents[1]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    ROOT / "benchmarks/README.md",
    ROOT / "webclient/README.md",
]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = PROTOCOL.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


@pytest.mark.fast
def test_the_table_of_events_matches_the_tests() -> None:
    """Every event, whether it is stored, and the names of its fields."""
    documented = {}
    for event, _, fields, stored in rows("Events"):
        names = re.findall(r"`(\w+)`", fields)  # `name?` may be missing
        documented[event.strip("`")] = (set(names), stored)
    del documented["error"]  # tests/test_errors.py has it
    tested = {name: (fields, "yes") for name, fields in STORED.items()}
    tested |= {name: (fields, "no") for name, fields in VOLATILE.items()}
    assert documented == tested


async def test_every_documented_action_exists(join: Join, wire: str) -> None:
    """No action of the table is `unknown_action`, and the message that lists the actions names no other."""
    client = await join(wire)
    documented = {name for row in rows("Actions") for name in re.findall(r"`([\w-]+)`", row[0])}
    assert documented == {name for action in ACTIONS for name in action.names}
    for action in documented:
        reply = await client.call(action)
        assert reply["ok"] or reply["error"]["code"] == "invalid_payload", (action, reply)
    reply = await client.call("no such action")
    assert reply["error"]["code"] == "unknown_action"


async def test_the_gateway_replies_as_the_document_shows(join: Join) -> None:
    """The frames shown under "The plain wire" are what a client gets, field for field."""
    section = PROTOCOL.split("\n## The plain wire\n")[1].split("\n## ")[0]
    sent = re.findall(r"^→ (\{.*?\})", section, flags=re.MULTILINE)
    shown = [json.loads(text.replace("…]", '"…"]')) for text in re.findall(r"← (\{.*\})$", section, flags=re.MULTILINE)]
    welcome, created, refused, message = shown
    alice, bob = await join("json"), await join("json")
    assert set(json.loads(str(alice.frames.log[0]))) == set(welcome)
    replies = []
    for frame in sent:
        await alice.send(frame)
        replies.append(await alice.replies.take(lambda _: True, "a reply"))
    assert [{"event": "reply", **reply} for reply in replies] == [
        {**created, "members": [{"username": alice.username, "online": True}]},
        {**refused, "error": {**refused["error"], "message": replies[1]["error"]["message"]}},
    ]
    await succeed(alice, "add-user", room=created["room"], users=[bob.username])
    await succeed(bob, "send-msg", room=created["room"], content=message["content"])
    event = await alice.next_event("message")
    assert {"event": event.name, "offset": event.offset, **event.fields}.keys() == message.keys()
    assert len(str(event.fields["ts"])) == len(str(message["ts"]))


@pytest.mark.fast
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_resolves(document: Path) -> None:
    """Files, pictures and headings of this repository."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", document.read_text()):
        path, _, heading = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, target


@pytest.mark.fast
def test_the_table_of_tests_names_existing_tests() -> None:
    """CONTRIBUTING.md lists the tests of each module."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    tests = set(re.findall(r"test_\w+\.py", contributing))
    assert len(tests) > 30
    assert tests <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    modules = {path.stem for path in (ROOT / "gateway").glob("*.py")} | {
        f"{path.parent.name}/" for path in (ROOT / "gateway").rglob("__init__.py")
    }
    named = re.findall(r"^\| (`.*?) \| `tests", contributing, re.MULTILINE)
    listed = {name.strip("` ") for row in named for name in row.split(",")}
    assert listed - {"engines/base", "engines/sqlite/", "engines/valkey/"} <= modules


@pytest.mark.fast
def test_the_table_of_commands_matches_the_justfile() -> None:
    """CONTRIBUTING.md gives each command in full, and its name; the justfile has the same, and no others."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    table = {
        name: command for command, name in re.findall(r"\| `([^|]+)` \| `just (\w+)` \|$", contributing, re.MULTILINE)
    }
    assert len(table) > 10
    recipes = re.findall(r"^(\w+)[^:=\n]*:\n    (.+)$", (ROOT / "justfile").read_text(), re.MULTILINE)
    written = {name: re.sub(r" \{\{\w+\}\}$", "", command).replace("{{bin}}", ".venv/bin") for name, command in recipes}
    assert written.pop("_list")
    assert written.pop("setup") in contributing
    assert table == written


@pytest.mark.fast
def test_the_changelog_begins_with_the_current_version() -> None:
    """Or with unreleased changes."""
    setup = (ROOT / "setup.cfg").read_text()
    version = re.findall(r"^version = (\S+)$", setup, re.MULTILINE)
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading != "Unreleased"][:1] == version


@pytest.mark.fast
def test_the_table_of_time_limits_matches_the_code() -> None:
    """docs/architecture.md names each one where it is: a constant, or settings with their defaults."""
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    limits = re.findall(r"^\| [^|]+ \| ([\d.]+)(?: and ([\d.]+))? \| (`.*`.*) \|$", architecture, re.MULTILINE)
    assert len(limits) > 15
    settings = Settings()
    for first, second, where in limits:
        found: list[float] = []
        for name in re.findall(r"`([^`]+)`", where):
            if name.startswith("--"):
                value = getattr(settings, name.removeprefix("--").replace("-", "_"))
                found.append(settings.recovery_window if value is None else value)
            elif "." in name:
                module, constant = name.rsplit(".", 1)
                found.append(getattr(import_module(f"gateway.{module}"), constant))
        if where.startswith("`connect_timeout`"):
            found.append(signature(SocketServer).parameters["connect_timeout"].default)
        wanted = [float(number) for number in (first, second) if number]
        assert sorted(set(found)) == sorted(set(wanted)), where


@pytest.mark.fast
def test_the_architecture_names_modules_that_are_there() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)`", architecture))
    modules = {
        str(path.relative_to(ROOT)) for part in ("gateway", "tests", "tools") for path in (ROOT / part).rglob("*.py")
    }
    assert len(named) > 40
    assert {name for name in named if not any(f"/{module}".endswith(f"/{name}") for module in modules)} == set()
