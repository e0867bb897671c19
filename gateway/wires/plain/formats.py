"""The formats of the plain wire: how events and replies are written in each, and what is read of a client's frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway import events
from gateway.errors import InvalidPayload, UnknownAction
from gateway.servers.jsonio import decode, raw_member
from gateway.servers.websocket.rfc6455 import text_frame

if TYPE_CHECKING:
    from gateway.pipeline import Reply

ECHOED: Final = frozenset({"create-room", "add-user", "add-users", "send-msg"})
"""The actions of the older server. In the bare format the reply to one that succeeds is its own frame."""


class BareWire:
    """The format of the older server. Its only event is the content of a message, and every close is final."""

    name = "bare"
    resumable = False

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        return text_frame(orjson.loads(body)["content"].encode()) if event == events.MESSAGE else b""

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        return b""

    def encode_reply(self, data: bytes, action: object, ref: Reply, reply: Reply) -> bytes:
        """The reply to the frame ``data``: itself, an error, or a reply object."""
        if not isinstance(action, str) or (not reply["ok"] and reply["error"]["code"] == UnknownAction.code):
            return orjson.dumps({"error": reply["error"]})
        if action not in ECHOED:
            return reply_object(ref, reply)
        return data if reply["ok"] else orjson.dumps({"error": reply["error"]})


class JSONWire:
    """Every event is an object with its name and its offset, and every reply is one too."""

    name = "json"
    resumable = True

    def encode_event(self, event: str, body: bytes, offset: str | None) -> bytes:
        head = {"event": event} if offset is None else {"event": event, "offset": offset}
        fields = b"," + body[1:] if len(body) > 2 else b"}"
        return text_frame(orjson.dumps(head)[:-1] + fields)

    def encode_welcome(self, body: bytes, offset: str) -> bytes:
        return self.encode_event(events.WELCOME, body, offset)

    def encode_reply(self, data: bytes, action: object, ref: Reply, reply: Reply) -> bytes:
        return reply_object(ref, reply)


BARE: Final = BareWire()
JSON: Final = JSONWire()
WIRES: Final[dict[str, BareWire | JSONWire]] = {"bare": BARE, "json": JSON}
"""By the value of ``?format=``."""


def reply_object(ref: Reply, reply: Reply) -> bytes:
    """The object that replies to a frame; ``ref`` is what `read_ref` returned for it."""
    return orjson.dumps({"event": "reply", **ref, **reply})


def read_object(data: bytes) -> dict[str, Any] | None:
    """The object in a client's frame, or None if it is anything else."""
    try:
        value = decode(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_ref(data: bytes, value: dict[str, Any]) -> Reply:
    """What the client has put into ``ref`` of its frame, as it is written there, for the reply. Empty without ``ref``.

    Raises:
        InvalidPayload: it cannot be repeated.
    """
    if "ref" not in value:
        return {}
    try:
        return {"ref": orjson.Fragment(raw_member(data, "ref", value["ref"]))}
    except ValueError as error:
        raise InvalidPayload.in_fields({"ref": [f"Is {error}."]}) from None
