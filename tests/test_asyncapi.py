"""``gateway asyncapi``: the document is AsyncAPI 3, and the gateway behaves as its examples show."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator

from gateway.config import Settings
from gateway.protocol.actions import (
    ACTIONS,
    ADD_USER,
    CREATE_ROOM,
    LEAVE_ROOM,
    SEND_MESSAGE,
    TYPING,
    Action,
)
from gateway.protocol.asyncapi import PLAIN, SOCKETIO, document
from gateway.protocol.events import ERROR, EVENTS
from gateway.protocol.login import RESUME
from harness.inbox import Event
from harness.node import install_packages
from harness.plain import Wire, dump, websocket_url
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from harness.client import ChatClient, Join
    from harness.process import StartGateway

DOCUMENT: dict[str, Any] = json.loads(json.dumps(document(dataclasses.asdict(Settings()), "1.2.3")))
MESSAGES = DOCUMENT["components"]["messages"]
CHANNELS = {"json": PLAIN, "socketio-websocket": SOCKETIO}

BY_CHANCE = {"ts", "offset", "sid", "pid", "message"}
"""Fields whose values an example cannot predict, and sentences."""


def schema_of(message: str) -> Draft7Validator:
    """The schema of a message's payload, with what it refers to."""
    return Draft7Validator({**MESSAGES[message]["payload"], "components": DOCUMENT["components"]})


def example_of(message: str) -> dict[str, Any]:
    (example,) = MESSAGES[message]["examples"]
    return dict(example["payload"])


def without_chance(value: Any, name: str = "") -> Any:
    """What an example shows of a value: the types of what is left to chance, and the names of direct rooms."""
    if name in BY_CHANCE:
        return type(value)
    if isinstance(value, dict):
        return {name: without_chance(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_chance(inner) for inner in value]
    return "@…" if isinstance(value, str) and value.startswith("@") else value


def test_the_document_is_asyncapi_3() -> None:
    """The official schema accepts it, and refuses it where a part is missing."""
    text = (install_packages() / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text()
    official = Draft7Validator(json.loads(text))
    assert [error.message for error in official.iter_errors(DOCUMENT)] == []
    damaged = copy.deepcopy(DOCUMENT)
    del damaged["operations"][f"{PLAIN}.perform.send-msg"]["channel"]
    assert not official.is_valid(damaged)


def test_every_reference_resolves() -> None:
    """Each ``$ref`` names a part of the document."""

    def references(value: Any) -> list[str]:
        if isinstance(value, list):
            return [found for inner in value for found in references(inner)]
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return []

    found = references(DOCUMENT)
    assert len(found) > 100
    for reference in found:
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


@pytest.mark.parametrize("message", sorted(MESSAGES))
def test_every_example_fits_its_schema(message: str) -> None:
    """The payload of each example; without any of its required fields it does not."""
    schema, example = schema_of(message), example_of(message)
    assert [error.message for error in schema.iter_errors(example)] == []
    if message.startswith(f"{PLAIN}."):
        first = next(iter(example))
        assert not schema.is_valid({name: value for name, value in example.items() if name != first})


def test_both_wires_have_every_action_and_event() -> None:
    """An operation each; the plain wire also has a log-in, and Socket.IO an event in the place of a reply."""
    expected = {f"{PLAIN}.perform.{RESUME.name}", f"{SOCKETIO}.send.{ERROR.name}"}
    expected |= {
        f"{channel}.{verb}.{each.name}"
        for channel in (PLAIN, SOCKETIO)
        for verb, declared in (("perform", ACTIONS), ("send", EVENTS))
        for each in declared
    }
    assert set(DOCUMENT["operations"]) == expected


def test_the_command_prints_the_document_for_the_settings_given() -> None:
    """Options and variables change the limits in it, as they do those of the gateway."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "asyncapi", "--max-users", "3"],
        env={**os.environ, "GATEWAY_MAX_CONTENT_LENGTH": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(done.stdout)
    schemas = printed["components"]["schemas"]
    assert schemas["SendMessage"]["properties"]["content"]["maxLength"] == 7
    assert schemas["AddUsers"]["properties"]["users"]["maxItems"] == 3
    assert printed["operations"] == DOCUMENT["operations"]


async def perform(client: ChatClient, wire: str, action: Action) -> dict[str, Any]:
    """Send the example of an action's request; returns what the example of its reply is about."""
    channel = CHANNELS[wire]
    payload = example_of(f"{channel}.request.{action.name}")
    payload.pop("action", None)
    reply = await client.call(action.name, **payload)
    return {"event": "reply", **reply} if channel == PLAIN else reply


def as_example(wire: str, event: Event) -> dict[str, Any]:
    """An event as the example of its message has it."""
    if CHANNELS[wire] == SOCKETIO:
        return event.fields
    return {"event": event.name, **({"offset": event.offset} if event.offset else {}), **event.fields}


@pytest.fixture(params=sorted(CHANNELS))
async def example_wire(request: pytest.FixtureRequest) -> str:
    """A wire for each channel of the document."""
    return str(request.param)


@pytest.fixture
async def people(start_gateway: StartGateway, join: Join, example_wire: str) -> list[ChatClient]:
    """Alice, bob and carol."""
    own = await start_gateway()
    return [await join(example_wire, name, to=own) for name in ("alice", "bob", "carol")]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
async def test_the_gateway_behaves_as_the_example_of_an_action(
    people: list[ChatClient], example_wire: str, action: Action
) -> None:
    """Alice performs it, in the room that she has created with bob: the reply is the example's, and others are sent
    what the action declares, and nothing else.
    """
    alice, *others = people
    channel = CHANNELS[example_wire]
    for before in (CREATE_ROOM, SEND_MESSAGE):
        if ACTIONS.index(before) < ACTIONS.index(action):
            await perform(alice, example_wire, before)
    for other in others:
        await other.drain()
    reply = await perform(alice, example_wire, action)
    assert schema_of(f"{channel}.reply.{action.name}").is_valid(reply), reply
    assert without_chance(reply) == without_chance(example_of(f"{channel}.reply.{action.name}"))
    sent = {event.name for other in others for event in await other.drain()}
    declared = {each.event.name for each in action.sends}
    assert sent <= declared
    assert sent or not declared


async def test_the_gateway_sends_the_example_of_an_event(people: list[ChatClient], example_wire: str) -> None:
    """Every event, as its example shows it, in the course of one conversation."""
    alice, bob, carol = people
    channel = CHANNELS[example_wire]
    for action in (CREATE_ROOM, SEND_MESSAGE, TYPING, ADD_USER, LEAVE_ROOM):
        await perform(alice, example_wire, action)
    await bob.next_event("user-left")
    await bob.call("leave-room", room="tea")
    await carol.call("leave-room", room="tea")
    await perform(alice, example_wire, CREATE_ROOM)
    if isinstance(alice, SocketIOClient):
        await alice.emit_without_ack("send-msg", {"room": "coffee", "content": "Hello!"})
        await alice.next_event("error")
    await alice.drop()
    await bob.next_event("presence")
    sent = [as_example(example_wire, event) for client in people for event in client.events.log]
    for name in (name for name in MESSAGES if name.startswith(f"{channel}.event.")):
        example = example_of(name)
        assert without_chance(example) in [without_chance(event) for event in sent], name
        assert any(schema_of(name).is_valid(event) for event in sent), name


async def test_the_gateway_behaves_as_the_example_of_a_log_in(start_gateway: StartGateway) -> None:
    """The first frame of the plain wire: the event `welcome` follows, and the reply of the example."""
    own = await start_gateway()
    async with Wire(f"{websocket_url(own.url)}/username/alice?format=json&resume", "alice") as alice:
        await alice.send(dump(example_of(f"{PLAIN}.request.{RESUME.name}")))
        assert schema_of(f"{PLAIN}.event.welcome").is_valid(json.loads(await alice.next_frame()))
        assert json.loads(await alice.next_frame()) == example_of(f"{PLAIN}.reply.{RESUME.name}")
