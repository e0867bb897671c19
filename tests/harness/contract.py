"""Checks every reply and event that a client of any test receives against `gateway.protocol`.

A client notes what is wrong, and the fixture `check_contract` fails the test.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import marshmallow

from gateway.config import Settings
from gateway.protocol.actions import ACTIONS, ALWAYS
from gateway.protocol.errors import UNKNOWN_ACTION
from gateway.protocol.events import ERROR, EVENTS
from gateway.protocol.schemas import reply_schema
from gateway.protocol.shapes import Failure

if TYPE_CHECKING:
    from gateway.protocol.fields import Schema

LIMITS = dataclasses.asdict(Settings())
EVENT_SCHEMAS = {event.name: (event, reply_schema(event.fields, LIMITS)) for event in (*EVENTS, ERROR)}
REPLY_SCHEMAS = {name: (action, reply_schema(action.reply, LIMITS)) for action in ACTIONS for name in action.names}
FAILURE = reply_schema(Failure, LIMITS)

violations: list[str] = []
"""What was wrong since the last test."""


def check_event(name: str, fields: dict[str, Any], offset: str | None) -> None:
    """An event has its fields and no others, and an offset if it is stored."""
    if name not in EVENT_SCHEMAS:
        violations.append(f"there is no event {name}: {fields}")
        return
    event, schema = EVENT_SCHEMAS[name]
    _check(schema, fields, f"event {name}")
    if event.stored != (offset is not None):
        violations.append(f"event {name} has the offset {offset}")


def check_reply(action: object, reply: dict[str, Any]) -> None:
    """A reply has the fields of its action and no others, or an error that its action can have."""
    known = REPLY_SCHEMAS.get(action) if isinstance(action, str) else None
    if reply.get("ok") is not True:
        possible = {error.code for error in (*ALWAYS, *(known[0].errors if known else (UNKNOWN_ACTION,)))}
        _check(FAILURE, reply.get("error"), f"error of {action}")
        if reply.get("ok") is not False or set(reply) != {"ok", "error"} or reply["error"]["code"] not in possible:
            violations.append(f"reply to {action}: {reply}")
    elif known is None:
        violations.append(f"{action} is no action, and was done: {reply}")
    else:
        _check(known[1], {name: value for name, value in reply.items() if name != "ok"}, f"reply to {action}")


def _check(schema: Schema, value: object, what: str) -> None:
    try:
        schema.load(value)  # type: ignore[arg-type]
    except marshmallow.ValidationError as error:
        violations.append(f"{what}: {error}: {value}"[:1000])
