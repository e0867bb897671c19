"""`gateway.protocol`: what is generated from it is up to date, and errors and close codes come from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import marshmallow
import pytest

from gateway import errors as exceptions
from gateway.config import Settings
from gateway.errors import CloseReason, GatewayError, InvalidPayload
from gateway.payloads import Payload
from gateway.protocol.actions import ACTIONS, Action, CreateRoom, ReadHistory, SendMessage
from gateway.protocol.closecodes import CLOSE_CODES
from gateway.protocol.errors import ERRORS, TOO_LARGE
from gateway.protocol.events import ERROR, EVENTS, Event
from gateway.protocol.fields import Text
from gateway.protocol.limits import LIMITS
from gateway.protocol.schemas import fields_of, json_schema, nested_in, reply_schema
from gateway.protocol.shapes import Member, RoomInfo
from gateway.servers.websocket import rfc6455
from harness import contract
from tools.generate import ROOT, document, generated

pytestmark = pytest.mark.fast

DEFAULTS = dataclasses.asdict(Settings())


@pytest.mark.parametrize("path", generated(), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_files_are_up_to_date(path: Path) -> None:
    """What is generated from the declarations is committed: ``python -m tools.generate`` changes nothing."""
    assert path.read_text() == generated()[path]


def test_text_between_markers_is_replaced() -> None:
    """Everything else in docs/protocol.md stays as it is."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    changed = text.replace("| `send-msg` |", "| `shout` |").replace("# The protocol", "# Another title")
    assert changed != text
    assert document(changed) == text.replace("# The protocol", "# Another title")


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_the_example_of_an_action_is_valid(action: Action) -> None:
    """The request by the schema that clients' payloads have to pass, the reply by that of replies."""
    assert Payload(action.request, DEFAULTS).load(action.example.request)
    assert reply_schema(action.reply, DEFAULTS).load(action.example.reply) == action.example.reply


@pytest.mark.parametrize("event", [*EVENTS, ERROR], ids=lambda event: event.name)
def test_the_example_of_an_event_is_valid(event: Event) -> None:
    """By the schema of the event."""
    assert reply_schema(event.fields, DEFAULTS).load(event.example) == event.example


def test_names_are_declared_once() -> None:
    """No two actions, events or errors share a name, nor two shapes."""
    for names in (
        [name for action in ACTIONS for name in action.names],
        [event.name for event in EVENTS],
        [error.code for error in ERRORS],
        [close.name for close in CLOSE_CODES],
        [limit.setting for limit in LIMITS],
    ):
        assert len(set(names)) == len(names)
    shapes = {shape for action in ACTIONS for shape in (action.request, action.reply)}
    shapes |= {event.fields for event in (*EVENTS, ERROR)}
    assert len({shape.__name__ for shape in shapes}) == len(shapes)


def test_every_limit_is_a_setting() -> None:
    """And says by which flag it is set."""
    assert {limit.setting for limit in LIMITS} <= set(DEFAULTS)
    assert [limit.flag for limit in LIMITS[:2]] == ["--max-room-name-length", "--max-content-length"]


def test_every_error_has_an_exception() -> None:
    """With its code and its HTTP status. None stands for `too_large`, which HTTP and WebSocket say by a status."""
    raised = {
        each.code: (each.http_status, each.temporary)
        for each in vars(exceptions).values()
        if isinstance(each, type) and issubclass(each, GatewayError) and each is not GatewayError
    }
    declared = {error.code: (error.http_status, error.temporary) for error in ERRORS if error is not TOO_LARGE}
    assert raised == declared


def test_every_close_code_is_used() -> None:
    """By the chat or by the WebSocket below it, and the reason that goes with it is the declared one."""
    assert {reason.value for reason in CloseReason} == {close for close in CLOSE_CODES if close.text}
    below = {int(code) for code in rfc6455.CloseCode}
    assert {close.code for close in CLOSE_CODES if not close.text} <= below


def test_a_bound_is_taken_from_the_settings() -> None:
    """Two gateways with other limits do not share them."""
    short = Payload(SendMessage, {**DEFAULTS, "max_content_length": 3})
    long = Payload(SendMessage, DEFAULTS)
    assert long.load({"room": "tea", "content": "1234"}) == SendMessage("tea", "1234")
    with pytest.raises(InvalidPayload, match="content: Must be 1 to 3 characters long"):
        short.load({"room": "tea", "content": "1234"})
    assert short.load({"room": "tea", "content": "123"}).content == "123"


def test_an_optional_field_has_its_default() -> None:
    """A request says by its defaults which fields may be missing."""
    assert Payload(CreateRoom, DEFAULTS).load({"room": "tea", "more": 1}) == CreateRoom("tea", (), "all")
    assert Payload(ReadHistory, DEFAULTS).load({"room": "tea", "before": None}) == ReadHistory("tea", None, 100)


class Shape(TypedDict):
    text: Annotated[str, Text("what it says", maximum=3)]
    count: NotRequired[int]
    member: NotRequired[Member]
    rooms: NotRequired[Annotated[list[RoomInfo], "some"]]


def test_a_schema_error_says_what_is_accepted() -> None:
    """Every field that is there has its type, those that must be there are, and no others are."""
    schema = reply_schema(Shape, DEFAULTS)
    fine: dict[str, Any] = {"text": "abc", "count": 1, "member": {"username": "bob", "online": True}, "rooms": []}
    assert schema.load(fine) == fine
    assert schema.load({"text": "abc"}) == {"text": "abc"}
    for name, wrong in (
        ("text", "abcd"),
        ("text", 5),
        ("count", True),
        ("count", -1),
        ("member", {"username": "bob"}),
        ("member", {"username": "bob", "online": True, "more": 1}),
        ("rooms", {}),
        ("rooms", [{}]),
        ("more", 1),
    ):
        with pytest.raises(marshmallow.ValidationError):
            schema.load({**fine, name: wrong})
    with pytest.raises(marshmallow.ValidationError):
        schema.load({})


def test_json_schema_and_marshmallow_agree() -> None:
    """With the shapes inside by reference."""
    assert json_schema(Shape, DEFAULTS) == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": 3, "description": "what it says"},
            "count": {"type": "integer", "minimum": 0},
            "member": {"$ref": "#/components/schemas/Member"},
            "rooms": {"type": "array", "items": {"$ref": "#/components/schemas/RoomInfo"}, "description": "some"},
        },
        "required": ["text"],
    }
    assert set(nested_in(Shape)) == {Member, RoomInfo}
    assert list(fields_of(Shape)) == ["text", "count", "member", "rooms"]


def test_an_undeclared_reply_or_event_is_noticed() -> None:
    """The clients of all tests note a field too many or too few, an offset that is missing, and an error that an action
    cannot have.
    """
    contract.check_event("typing", {"room": "tea", "username": "bob"}, None)
    contract.check_reply("leave-room", {"ok": True})
    contract.check_reply("leave-room", {"ok": False, "error": {"code": "room_not_found", "message": "No."}})
    contract.check_reply("fly", {"ok": False, "error": {"code": "unknown_action", "message": "No."}})
    assert contract.violations == []
    contract.check_event("typing", {"room": "tea"}, None)
    contract.check_event("typing", {"room": "tea", "username": "bob", "more": 1}, None)
    contract.check_event("typing", {"room": "tea", "username": "bob"}, "5f1d3c9a2b7e-4")
    contract.check_event("user-left", {"room": "tea", "username": "bob"}, None)
    contract.check_event("flown", {}, None)
    contract.check_reply("leave-room", {"ok": True, "more": 1})
    contract.check_reply("leave-room", {"ok": False, "error": {"code": "room_exists", "message": "No."}})
    contract.check_reply("fly", {"ok": True})
    assert len(contract.violations) == 8
    contract.violations.clear()
