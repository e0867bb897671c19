"""Validation, once, at the edge: payloads become requests. Requests can be trusted: their types, lengths and usernames
are valid. Unknown fields are ignored. Anything invalid raises `InvalidPayload`, which names the field and the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import marshmallow
from marshmallow import missing

from gateway.errors import InvalidPayload, InvalidUsername
from gateway.protocol.fields import is_username
from gateway.protocol.login import Credentials
from gateway.protocol.schemas import request_schema

if TYPE_CHECKING:
    from gateway.protocol.limits import LimitValues

Request = TypeVar("Request")


class Payload(Generic[Request]):
    """Reads one kind of request."""

    def __init__(self, shape: type[Request], limits: LimitValues) -> None:
        """``shape`` is a dataclass of `gateway.protocol`; ``limits`` has the bounds of its fields."""
        self._shape = shape
        self._schema = request_schema(shape, limits)
        self._fields = tuple(self._schema.known.items())

    def load(self, payload: object) -> Request:
        """The request in ``payload``, a decoded JSON value.

        Raises:
            InvalidPayload: not an object, or a field is missing or wrong.
        """
        if not isinstance(payload, dict):
            raise InvalidPayload("The payload must be one JSON object.")
        try:
            # `Schema.load` also collects all errors, which takes longer, so it runs only if there is one.
            values = {
                name: field.deserialize(value) if value is None or value is missing else field.read(value)
                for name, field in self._fields
                if (value := payload.get(name, missing)) is not missing or field.required
            }
        except marshmallow.ValidationError:
            raise self._problem(payload) from None
        return self._shape(**values)

    def _problem(self, payload: dict[str, Any]) -> InvalidPayload:
        """Everything that is wrong with a payload."""
        problems: dict[str, list[str]] = {}
        try:
            self._schema.load(payload)
        except marshmallow.ValidationError as error:
            error.__traceback__ = None  # a frame of it holds the error: a reference cycle, with the payload in it
            problems = error.messages_dict
        return InvalidPayload.in_fields(problems)


_CREDENTIALS = Payload(Credentials, {})


def load_credentials(payload: object) -> Credentials:
    """The credentials in ``{username, pid?, offset?}``.

    Raises:
        InvalidPayload: not an object, no username, or ``pid`` or ``offset`` is not a string of at most 256 characters.
        InvalidUsername: the username does not have the right form.
    """
    credentials = _CREDENTIALS.load(payload)
    if not is_username(credentials.username):
        raise InvalidUsername
    return credentials
