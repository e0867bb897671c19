"""What clients may send: one marshmallow schema for each payload, validated once, at the edge.

A schema turns a decoded JSON value into a frozen request. What comes out can be trusted: types, lengths and the
form of usernames are right. Unknown fields are ignored. What is wrong raises `InvalidPayload`, which names the
field and the limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import marshmallow
from marshmallow import fields, missing

from gateway import events
from gateway.config import ID_LENGTH
from gateway.errors import InvalidPayload, InvalidUsername
from gateway.protocol import names
from gateway.protocol.offsets import looks_like_offset

if TYPE_CHECKING:
    from gateway.config import Settings

PAGE_SIZE = 100
"""Entries in one page of members, messages or users, at most and by default."""

_USERNAME = re.compile(r"[a-z0-9]{1,32}")


# --- requests: what a valid payload becomes


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who wants to come in, and from where they want to go on."""

    username: str
    pid: str | None = None
    offset: str | None = None


@dataclass(frozen=True, slots=True)
class CreateRoom:
    room: str
    users: tuple[str, ...] = ()
    history: str = events.ALL


@dataclass(frozen=True, slots=True)
class OpenDirect:
    user: str


@dataclass(frozen=True, slots=True)
class AddUsers:
    room: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendMessage:
    room: str
    content: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class InRoom:
    room: str


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(frozen=True, slots=True)
class ListMembers:
    room: str
    after: str = ""
    limit: int = PAGE_SIZE


@dataclass(frozen=True, slots=True)
class ReadHistory:
    room: str
    before: str | None = None
    limit: int = PAGE_SIZE


@dataclass(frozen=True, slots=True)
class FindUsers:
    prefix: str = ""
    limit: int = PAGE_SIZE


T = TypeVar("T")


# --- fields: stricter than marshmallow's own, which take bytes for text and true for 1


class Field(fields.Field[T]):
    """A field without marshmallow's further steps, of which ours have none."""

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if value is missing or value is None:
            return super().deserialize(value, attr, data, **kwargs)
        return self._deserialize(value, attr, data, **kwargs)


class Text(Field[str]):
    """A string of ``minimum`` to ``maximum`` Unicode code points."""

    def __init__(self, maximum: int, *, minimum: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._minimum = minimum
        self._maximum = maximum

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise marshmallow.ValidationError("Must be a string.")
        if not self._minimum <= len(value) <= self._maximum:
            raise marshmallow.ValidationError(f"Must be {self._minimum} to {self._maximum} characters long.")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise marshmallow.ValidationError("Must not contain half of a character (a lone surrogate).") from None
        return value


class MessageId(Text):
    """A `Text` that is not taken for an offset, beside which it stands in ``before``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = Text._deserialize(self, value, attr, data)
        if looks_like_offset(name):
            raise marshmallow.ValidationError("Must not have the form of an offset.")
        return name


class Content(Text):
    """A `Text` in which there is something to see."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        content = Text._deserialize(self, value, attr, data)
        if not names.is_visible(content):
            raise marshmallow.ValidationError("Must have a character that can be seen.")
        return content


class RoomName(Text):
    """What a client calls a room that it is in: any `Text`, which may be longer than the name where it is not normal.
    Which room that is, the store knows.
    """

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, str) and len(value) > self._maximum and not value.isascii():
            return _room_name(value, self._maximum)
        return Text._deserialize(self, value, attr, data)


class NewRoomName(Text):
    """What a client may call a new room, as `names.room_name` has it. The names of direct rooms are the server's."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise marshmallow.ValidationError("Must be a string.")
        name = _room_name(value, self._maximum)
        if name.startswith(events.DIRECT_MARK):
            raise marshmallow.ValidationError(f"Must not begin with {events.DIRECT_MARK}.")
        return name


class Choice(Field[str]):
    """One of a few words."""

    def __init__(self, *words: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._words = words

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or value not in self._words:
            raise marshmallow.ValidationError(f"Must be one of {', '.join(self._words)}.")
        return value


class Username(Field[str]):
    """One username."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not is_username(value):
            raise marshmallow.ValidationError(f"Must be a username. {InvalidUsername()}")
        return value


class Usernames(Field[tuple[str, ...]]):
    """A list of ``minimum`` to ``maximum`` usernames; repeated ones count once."""

    def __init__(self, maximum: int, *, minimum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._minimum = minimum
        self._maximum = maximum

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise marshmallow.ValidationError("Must be a list of usernames.")
        if not self._minimum <= len(value) <= self._maximum:
            raise marshmallow.ValidationError(f"Must have {self._minimum} to {self._maximum} entries.")
        if not all(is_username(name) for name in value):
            raise marshmallow.ValidationError(f"Must be usernames. {InvalidUsername()}")
        return tuple(dict.fromkeys(value))


class PageLimit(Field[int]):
    """A whole number from 1 to `PAGE_SIZE`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= PAGE_SIZE:
            raise marshmallow.ValidationError(f"Must be a whole number from 1 to {PAGE_SIZE}.")
        return value


def _room_name(value: str, maximum: int) -> str:
    if not value.isascii():
        Text(names.MAX_GROWTH * maximum)._deserialize(value, None, None)
    try:
        return names.room_name(value, maximum)
    except ValueError as error:
        raise marshmallow.ValidationError(str(error)) from None


# --- payloads: a schema and the request it makes

Request = TypeVar("Request")


class Payload(Generic[Request]):
    """The schema of one payload. ``known`` are its fields, by the names of the request's attributes."""

    def __init__(self, request: type[Request], **known: fields.Field[Any]) -> None:
        self._request = request
        self._schema = marshmallow.Schema.from_dict(dict(known), name=request.__name__)(unknown=marshmallow.EXCLUDE)
        self._fields = tuple(self._schema.load_fields.items())

    def load(self, payload: object) -> Request:
        """The request that ``payload``, a decoded JSON value, asks for.

        Raises:
            InvalidPayload: not an object, or a field is missing or wrong.
        """
        if not isinstance(payload, dict):
            raise InvalidPayload("The payload must be one JSON object.")
        try:
            # What `Schema.load` does besides is to collect the errors; without one, it need not take its time.
            values = {
                name: field.deserialize(payload.get(name, missing))
                for name, field in self._fields
                if name in payload or field.required
            }
        except marshmallow.ValidationError:
            raise self._problem(payload) from None
        return self._request(**values)

    def _problem(self, payload: dict[str, Any]) -> InvalidPayload:
        """All that is wrong with a payload."""
        problems: dict[str, list[str]] = {}
        try:
            self._schema.load(payload)
        except marshmallow.ValidationError as error:
            error.__traceback__ = None  # a frame of it has the error, and would keep it and the payload
            problems = error.messages_dict
        return InvalidPayload.in_fields(problems)


_CREDENTIALS = Payload(
    Credentials,
    username=fields.Raw(required=True),
    pid=Text(256, minimum=0, allow_none=True),
    offset=Text(256, minimum=0, allow_none=True),
)


def is_username(value: object) -> bool:
    """Whether ``value`` is a string of the form ``[a-z0-9]{1,32}``."""
    return isinstance(value, str) and _USERNAME.fullmatch(value) is not None


def load_credentials(payload: object) -> Credentials:
    """The credentials in ``{username, pid?, offset?}``.

    Raises:
        InvalidPayload: not an object, no username, or ``pid`` or ``offset`` is no string of at most 256 characters.
        InvalidUsername: the username is not of its form.
    """
    credentials = _CREDENTIALS.load(payload)
    if not is_username(credentials.username):
        raise InvalidUsername
    return credentials


class ActionPayloads:
    """The payload of every action, with the limits of ``settings``."""

    def __init__(self, settings: Settings) -> None:
        def room() -> RoomName:
            return RoomName(settings.max_room_name_length, required=True)

        self.in_room = Payload(InRoom, room=room())
        self.nothing = Payload(Nothing)
        self.create_room = Payload(
            CreateRoom,
            room=NewRoomName(settings.max_room_name_length, required=True),
            users=Usernames(settings.max_users, minimum=0),
            history=Choice(events.ALL, events.JOINED),
        )
        self.open_direct = Payload(OpenDirect, user=Username(required=True))
        self.add_users = Payload(AddUsers, room=room(), users=Usernames(settings.max_users, minimum=1, required=True))
        self.send_message = Payload(
            SendMessage,
            room=room(),
            content=Content(settings.max_content_length, required=True),
            id=MessageId(ID_LENGTH, allow_none=True),
        )
        self.list_members = Payload(ListMembers, room=room(), after=Text(32, minimum=0), limit=PageLimit())
        self.read_history = Payload(ReadHistory, room=room(), before=Text(64, allow_none=True), limit=PageLimit())
        self.find_users = Payload(FindUsers, prefix=Text(32, minimum=0), limit=PageLimit())
