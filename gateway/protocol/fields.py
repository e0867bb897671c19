"""The types of fields: what each accepts from a client, and how JSON Schema says it.

They are stricter than marshmallow's own, which take bytes for text and true for 1. A bound may be a `Limit`; the schema
that a field is bound to knows its value.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import marshmallow
from marshmallow import fields

from gateway.protocol import names
from gateway.protocol.limits import ID_LENGTH, PAGE_SIZE, ROOM_NAME, USERNAME_LENGTH, Limit, LimitValues
from gateway.protocol.offsets import looks_like_offset

if TYPE_CHECKING:
    from collections.abc import Mapping

JSONSchema: TypeAlias = "dict[str, Any]"
T = TypeVar("T")

UNBOUNDED: Final = 2**63 - 1
"""The maximum of what has none."""

DIRECT_MARK: Final = "@"
"""What the name of a direct room begins with, and that of no room that a client creates."""

USERNAME_RULE: Final = "A username is 1 to 32 characters, each a lower-case letter a-z or a digit."
_USERNAME: Final = re.compile(rf"[a-z0-9]{{1,{USERNAME_LENGTH}}}")


def is_username(value: object) -> bool:
    """Whether ``value`` is a string of the form ``[a-z0-9]{1,32}``."""
    return isinstance(value, str) and _USERNAME.fullmatch(value) is not None


class Field(fields.Field[T], ABC):
    """A field that needs none of marshmallow's further steps. ``about`` says what it is, as a phrase."""

    def __init__(self, about: str = "") -> None:
        super().__init__()
        self.about = about

    @abstractmethod
    def read(self, value: Any) -> T:
        """What ``value``, decoded JSON and not null, stands for. Raises ValidationError if it is not accepted."""

    @abstractmethod
    def json_schema(self) -> JSONSchema:
        """The JSON Schema of the field, once it is bound to a schema."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> T:
        return self.read(value)


class Schema(marshmallow.Schema):
    """A schema whose fields take their bounds from ``limits``."""

    def __init__(self, limits: LimitValues, **options: Any) -> None:
        self.limits = limits
        super().__init__(**options)

    @property
    def known(self) -> dict[str, Field[Any]]:
        """The fields, by their names."""
        return {name: field for name, field in self.load_fields.items() if isinstance(field, Field)}


class Text(Field[str]):
    """A string of ``minimum`` to ``maximum`` Unicode code points."""

    def __init__(self, about: str = "", *, minimum: int = 1, maximum: int | Limit = UNBOUNDED) -> None:
        super().__init__(about)
        self.minimum = minimum
        self.maximum = UNBOUNDED
        self._bound = maximum

    def _bind_to_schema(self, field_name: str, parent: Any) -> None:
        super()._bind_to_schema(field_name, parent)
        self.maximum = self._bound.value(parent.limits) if isinstance(self._bound, Limit) else self._bound

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise marshmallow.ValidationError("Must be a string.")
        if not self.minimum <= len(value) <= self.maximum:
            raise marshmallow.ValidationError(f"Must be {self.minimum} to {self.maximum} characters long.")
        if not value.isascii():
            _check_surrogates(value)
        return value

    def json_schema(self) -> JSONSchema:
        schema: JSONSchema = {"type": "string"}
        if self.minimum:
            schema["minLength"] = self.minimum
        if self.maximum != UNBOUNDED:
            schema["maxLength"] = self.maximum
        return schema


def _check_surrogates(text: str) -> None:
    """Check that a text has whole characters only. Raises ValidationError."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise marshmallow.ValidationError("Must not contain half of a character (a lone surrogate).") from None


class MessageId(Text):
    """A `Text` that cannot be taken for an offset, with which it shares the field ``before``."""

    def __init__(self, about: str = "") -> None:
        super().__init__(about, maximum=ID_LENGTH)

    def read(self, value: Any) -> str:
        id_ = Text.read(self, value)
        if looks_like_offset(id_):
            raise marshmallow.ValidationError("Must not have the form of an offset.")
        return id_


class Content(Text):
    """A `Text` with at least one visible character."""

    def read(self, value: Any) -> str:
        content = Text.read(self, value)
        if not names.is_visible(content):
            raise marshmallow.ValidationError("Must have a visible character.")
        return content


class RoomName(Text):
    """What a client calls a room that it is in: any `Text`, which may be longer than the name where it is not
    normalized. Which room that is, the store knows.
    """

    def __init__(self, about: str = "") -> None:
        super().__init__(about, maximum=ROOM_NAME)

    def read(self, value: Any) -> str:
        if isinstance(value, str) and len(value) > self.maximum and not value.isascii():
            return _room_name(value, self.maximum)
        return Text.read(self, value)


class NewRoomName(RoomName):
    """What a client may call a new room, by the rules of `names.room_name`. The names of direct rooms are the
    server's.
    """

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise marshmallow.ValidationError("Must be a string.")
        name = _room_name(value, self.maximum)
        if name.startswith(DIRECT_MARK):
            raise marshmallow.ValidationError(f"Must not begin with {DIRECT_MARK}.")
        return name


def _room_name(value: str, maximum: int) -> str:
    if not value.isascii():
        _check_surrogates(value)
    try:
        return names.room_name(value, maximum)
    except ValueError as error:
        raise marshmallow.ValidationError(str(error)) from None


class Choice(Field[str]):
    """One of a few words."""

    def __init__(self, *words: str, about: str = "") -> None:
        super().__init__(about)
        self.words = words

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise marshmallow.ValidationError(f"Must be one of {', '.join(self.words)}.")
        return value

    def json_schema(self) -> JSONSchema:
        return {"type": "string", "enum": list(self.words)}


class Username(Field[str]):
    """One username."""

    def read(self, value: Any) -> str:
        if not is_username(value):
            raise marshmallow.ValidationError(f"Must be a username. {USERNAME_RULE}")
        return str(value)

    def json_schema(self) -> JSONSchema:
        return {"type": "string", "pattern": f"^{_USERNAME.pattern}$"}


class Usernames(Field[tuple[str, ...]]):
    """A list of ``minimum`` to ``maximum`` usernames; repeated ones count once."""

    def __init__(self, maximum: Limit, *, minimum: int) -> None:
        super().__init__()
        self._bound = maximum
        self.minimum = minimum
        self.maximum = 0

    def _bind_to_schema(self, field_name: str, parent: Any) -> None:
        super()._bind_to_schema(field_name, parent)
        self.maximum = self._bound.value(parent.limits)

    def read(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise marshmallow.ValidationError("Must be a list of usernames.")
        if not self.minimum <= len(value) <= self.maximum:
            raise marshmallow.ValidationError(f"Must have {self.minimum} to {self.maximum} entries.")
        if not all(is_username(name) for name in value):
            raise marshmallow.ValidationError(f"Must be usernames. {USERNAME_RULE}")
        return tuple(dict.fromkeys(value))

    def json_schema(self) -> JSONSchema:
        return {
            "type": "array",
            "items": Username().json_schema(),
            "minItems": self.minimum,
            "maxItems": self.maximum,
        }


class Integer(Field[int]):
    """A whole number from ``minimum`` to ``maximum``."""

    def __init__(self, about: str = "", *, minimum: int = 0, maximum: int = UNBOUNDED) -> None:
        super().__init__(about)
        self.minimum = minimum
        self.maximum = maximum

    def read(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise marshmallow.ValidationError(f"Must be a whole number from {self.minimum} to {self.maximum}.")
        return value

    def json_schema(self) -> JSONSchema:
        schema: JSONSchema = {"type": "integer", "minimum": self.minimum}
        if self.maximum != UNBOUNDED:
            schema["maximum"] = self.maximum
        return schema


class PageLimit(Integer):
    """How many entries a page has at most: 1 to `PAGE_SIZE`."""

    def __init__(self) -> None:
        super().__init__(minimum=1, maximum=PAGE_SIZE)


class Seconds(Field[float]):
    """A span of time."""

    def read(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise marshmallow.ValidationError("Must be a number of seconds.")
        return float(value)

    def json_schema(self) -> JSONSchema:
        return {"type": "number", "minimum": 0}


class Flag(Field[bool]):
    """True or false; ``only`` one of them if it is given."""

    def __init__(self, about: str = "", *, only: bool | None = None) -> None:
        super().__init__(about)
        self.only = only

    def read(self, value: Any) -> bool:
        if not isinstance(value, bool) or (self.only is not None and value is not self.only):
            wanted = "true or false" if self.only is None else str(self.only).lower()
            raise marshmallow.ValidationError(f"Must be {wanted}.")
        return value

    def json_schema(self) -> JSONSchema:
        return {"type": "boolean"} if self.only is None else {"const": self.only}


class Anything(Field[Any]):
    """Any JSON value."""

    def read(self, value: Any) -> Any:
        return value

    def json_schema(self) -> JSONSchema:
        return {}


class Object(Field["Mapping[str, Any]"]):
    """An object with any fields."""

    def read(self, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise marshmallow.ValidationError("Must be an object.")
        return value

    def json_schema(self) -> JSONSchema:
        return {"type": "object"}


class Nested(Field[Any]):
    """An object of a shape, which JSON Schema refers to by its name."""

    def __init__(self, schema: type[Schema], about: str = "") -> None:
        super().__init__(about)
        self.nested = schema
        self._schema: Schema | None = None

    def _bind_to_schema(self, field_name: str, parent: Any) -> None:
        super()._bind_to_schema(field_name, parent)
        self._schema = self.nested(parent.limits, unknown=parent.unknown)

    def read(self, value: Any) -> Any:
        assert self._schema is not None  # noqa: S101 - bound before it is used
        return self._schema.load(value)

    def json_schema(self) -> JSONSchema:
        return {"$ref": f"#/components/schemas/{self.nested.__name__}"}


class Many(Field[list[Any]]):
    """A list of what one field accepts."""

    def __init__(self, item: Field[Any], about: str = "") -> None:
        super().__init__(about)
        self._item = item

    def _bind_to_schema(self, field_name: str, parent: Any) -> None:
        super()._bind_to_schema(field_name, parent)
        self._item = copy(self._item)
        self._item._bind_to_schema(field_name, parent)

    def read(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise marshmallow.ValidationError("Must be a list.")
        return [self._item.deserialize(item) for item in value]

    def json_schema(self) -> JSONSchema:
        return {"type": "array", "items": self._item.json_schema()}
