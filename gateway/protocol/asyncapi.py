"""The protocol as an AsyncAPI 3 document: one channel for each wire, one operation for each action and each event.

The plain wire is described in its full form (``?format=json``): the bare form has no events but ``message``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.protocol.actions import ACTIONS, ALWAYS, Action
from gateway.protocol.closecodes import CLOSE_CODES
from gateway.protocol.errors import ERRORS
from gateway.protocol.events import ERROR, EVENTS, Event
from gateway.protocol.limits import LIMITS
from gateway.protocol.login import RESUME, Credentials
from gateway.protocol.schemas import json_schema, nested_in
from gateway.protocol.shapes import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.protocol.limits import LimitValues

JSON: TypeAlias = dict[str, Any]

SOCKETIO, PLAIN = "socketio", "plain"
"""The channels."""

ON_PLAIN = (*ACTIONS, RESUME)
"""The actions of the plain wire."""

OFFSET: JSON = {"type": "string", "description": "the place of a stored event in the order of events; opaque"}
REF: JSON = {"description": "any JSON, which the reply repeats"}


def document(limits: LimitValues, version: str) -> JSON:
    """The document of a gateway of that version, with these limits."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Chat gateway",
            "version": version,
            "description": "Socket.IO and plain WebSocket clients in the same rooms. See docs/protocol.md.",
        },
        "defaultContentType": "application/json",
        "servers": {"gateway": {"host": "localhost:8080", "protocol": "ws"}},
        "channels": {SOCKETIO: _socketio_channel(), PLAIN: _plain_channel()},
        "operations": _operations(),
        "components": {
            "messages": {**_socketio_messages(), **_plain_messages()},
            "schemas": _schemas(limits),
        },
        "x-errors": [
            {"code": error.code, "http_status": error.http_status, "temporary": error.temporary, "when": error.when}
            for error in ERRORS
        ],
        "x-close-codes": [
            {"code": close.code, "come_back": close.come_back, "when": close.when} for close in CLOSE_CODES
        ],
        "x-limits": [
            {"of": limit.of, "unit": limit.unit, "setting": limit.flag, "value": limits[limit.setting]}
            for limit in LIMITS
        ],
    }


# --- channels


def _socketio_channel() -> JSON:
    return {
        "address": "/socket.io/",
        "title": "Socket.IO",
        "description": (
            "Events of the namespace `/`. CONNECT carries the schema `Credentials`. A reply is an ack. A stored event "
            "has its offset as a second argument."
        ),
        "messages": _references(_socketio_messages()),
    }


def _plain_channel() -> JSON:
    return {
        "address": "/username/{username}",
        "title": "Plain WebSocket",
        "description": "One JSON object for each text frame.",
        "parameters": {"username": {"description": "Who logs in."}},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "format": {"const": "json"},
                        "pid": {"type": "string"},
                        "offset": {"type": "string"},
                        "resume": {"type": "string", "description": "The first frame logs in, with `resume`."},
                    },
                    "required": ["format"],
                },
            }
        },
        "messages": _references(_plain_messages()),
    }


def _references(messages: Iterable[str]) -> JSON:
    return {name: _reference("components", "messages", name) for name in messages}


def _reference(*path: str) -> JSON:
    return {"$ref": "/".join(("#", *path))}


# --- operations


def _operations() -> JSON:
    operations: JSON = {}
    for channel in (SOCKETIO, PLAIN):
        actions = ON_PLAIN if channel == PLAIN else ACTIONS
        operations |= {_name(channel, "perform", action.name): _performs(channel, action) for action in actions}
        operations |= {_name(channel, "send", event.name): _sends(channel, event) for event in EVENTS}
    operations[_name(SOCKETIO, "send", ERROR.name)] = _sends(SOCKETIO, ERROR)
    return operations


def _performs(channel: str, action: Action) -> JSON:
    sends = [f"Sends `{sent.event.name}` to {sent.to}." for sent in action.sends]
    names = [f"Also called `{alias}`." for alias in action.aliases]
    return {
        "action": "receive",
        "channel": _reference("channels", channel),
        "summary": action.summary,
        "description": " ".join([action.summary, *names, *sends]),
        "messages": [_reference("channels", channel, "messages", _name(channel, "request", action.name))],
        "reply": {
            "channel": _reference("channels", channel),
            "messages": [_reference("channels", channel, "messages", _name(channel, "reply", action.name))],
        },
        "x-errors": [error.code for error in (*ALWAYS, *action.errors)],
        "x-cost": action.cost,
    }


def _sends(channel: str, event: Event) -> JSON:
    return {
        "action": "send",
        "channel": _reference("channels", channel),
        "summary": f"{event.when[0].upper()}{event.when[1:]}.",
        "messages": [_reference("channels", channel, "messages", _name(channel, "event", event.name))],
        "x-stored": event.stored,
    }


def _name(channel: str, role: str, name: str) -> str:
    return f"{channel}.{role}.{name}"


# --- messages


def _socketio_messages() -> JSON:
    messages: JSON = {}
    for action in ACTIONS:
        messages[_name(SOCKETIO, "request", action.name)] = _message(
            action.name, action.summary, _schema(action.request), action.example.request
        )
        messages[_name(SOCKETIO, "reply", action.name)] = _message(
            "ack", f"The ack of `{action.name}`.", _either(_schema(action.reply)), {"ok": True, **action.example.reply}
        )
    for event in (*EVENTS, ERROR):
        messages[_name(SOCKETIO, "event", event.name)] = _message(
            event.name, event.when, _schema(event.fields), event.example
        )
    return messages


def _plain_messages() -> JSON:
    messages: JSON = {}
    for action in ON_PLAIN:
        named = {"properties": {"action": {"enum": list(action.names)}, "ref": REF}, "required": ["action"]}
        messages[_name(PLAIN, "request", action.name)] = _message(
            action.name,
            action.summary,
            _all(named, _schema(action.request)),
            {"action": action.name, **action.example.request},
        )
        frame = {"properties": {"event": {"const": "reply"}, "ref": REF}, "required": ["event"]}
        messages[_name(PLAIN, "reply", action.name)] = _message(
            "reply",
            f"The reply to `{action.name}`.",
            _all(frame, _either(_schema(action.reply))),
            {"event": "reply", "ok": True, **action.example.reply},
        )
    for event in EVENTS:
        head: JSON = {"properties": {"event": {"const": event.name}}, "required": ["event"]}
        if event.stored:
            head = {"properties": {**head["properties"], "offset": OFFSET}, "required": ["event", "offset"]}
        example = {"event": event.name, **({"offset": "5f1d3c9a2b7e-4"} if event.stored else {}), **event.example}
        messages[_name(PLAIN, "event", event.name)] = _message(
            event.name, event.when, _all(head, _schema(event.fields)), example
        )
    return messages


def _message(name: str, summary: str, payload: JSON, example: JSON) -> JSON:
    return {"name": name, "summary": summary, "payload": payload, "examples": [{"payload": example}]}


# --- schemas


def _schemas(limits: LimitValues) -> JSON:
    shapes: list[type] = [Failure, Credentials]
    shapes += [shape for action in ON_PLAIN for shape in (action.request, action.reply)]
    shapes += [event.fields for event in (*EVENTS, ERROR)]
    shapes += [inner for shape in shapes for inner in nested_in(shape)]
    schemas = {shape.__name__: json_schema(shape, limits) for shape in shapes}
    schemas["Failed"] = {
        "type": "object",
        "properties": {"ok": {"const": False}, "error": _schema(Failure)},
        "required": ["ok", "error"],
    }
    return schemas


def _schema(shape: type) -> JSON:
    return _reference("components", "schemas", shape.__name__)


def _either(reply: JSON) -> JSON:
    """What a reply is: what was asked for, or an error."""
    done = {"properties": {"ok": {"const": True}}, "required": ["ok"]}
    return {"oneOf": [_all(done, reply), _reference("components", "schemas", "Failed")]}


def _all(head: JSON, schema: JSON) -> JSON:
    return {"type": "object", "allOf": [head, schema]}
