"""From a shape to its schema.

A shape is a dataclass (what clients send) or a TypedDict (what they are sent). The type of each of its fields says what
the field accepts; ``Annotated`` adds a `Field`, where the type alone does not say enough, or a phrase about it.
"""

from __future__ import annotations

import dataclasses
from copy import copy
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, get_args, get_origin, get_type_hints

import marshmallow

from gateway.protocol.fields import (
    Anything,
    Choice,
    Field,
    Flag,
    Integer,
    JSONSchema,
    Many,
    Nested,
    Object,
    Schema,
    Seconds,
    Text,
)
from gateway.protocol.limits import LimitValues

PLAIN: dict[object, Field[Any]] = {
    str: Text(minimum=0),
    int: Integer(),
    float: Seconds(),
    bool: Flag(),
    dict[str, Any]: Object(),
    Any: Anything(),
}
"""What a type alone accepts."""


def request_schema(shape: type, limits: LimitValues) -> Schema:
    """The schema of what clients send: fields that it does not know are ignored."""
    return _schema_class(shape)(limits, unknown=marshmallow.EXCLUDE)


def reply_schema(shape: type, limits: LimitValues) -> Schema:
    """The schema of what clients are sent: it knows every field."""
    return _schema_class(shape)(limits, unknown=marshmallow.RAISE)


def json_schema(shape: type, limits: LimitValues) -> JSONSchema:
    """The JSON Schema of a shape. It refers to the shapes in its fields as ``#/components/schemas/{name}``."""
    known = reply_schema(shape, limits).known
    properties = {name: _described(field) for name, field in known.items()}
    schema: JSONSchema = {"type": "object", "properties": properties}
    if required := [name for name, field in known.items() if field.required]:
        schema["required"] = required
    return schema


def fields_of(shape: type) -> dict[str, Field[Any]]:
    """The fields of a shape, in order, bound to no schema yet."""
    hints = get_type_hints(shape, include_extras=True)
    if dataclasses.is_dataclass(shape):
        optional = {field.name for field in dataclasses.fields(shape) if field.default is not dataclasses.MISSING}
    else:
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    return {name: _field(hint, required=name not in optional) for name, hint in hints.items()}


def nested_in(shape: type) -> list[type]:
    """The shapes that the fields of a shape hold, and those in them."""
    found: list[type] = []
    for hint in get_type_hints(shape).values():
        for inner in (hint, *get_args(hint)):
            if _is_shape(inner):
                found += [inner, *nested_in(inner)]
    return found


def _schema_class(shape: type) -> type[Schema]:
    return Schema.from_dict(dict(fields_of(shape)), name=shape.__name__)  # type: ignore[return-value]


def _field(hint: Any, *, required: bool) -> Field[Any]:
    if get_origin(hint) is NotRequired:
        (hint,) = get_args(hint)
    field = _type_of(hint)
    field.required = required
    return field


def _type_of(hint: Any) -> Field[Any]:
    """The field that accepts what a type says."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(*arguments)
    if origin is Literal:
        return Flag(only=arguments[0]) if isinstance(arguments[0], bool) else Choice(*arguments)
    if origin is list:
        return Many(_type_of(arguments[0]))
    return Nested(_schema_class(hint)) if _is_shape(hint) else copy(PLAIN[hint])


def _annotated(hint: Any, annotation: Field[Any] | str) -> Field[Any]:
    """``annotation``: the field itself, or a phrase about the one of ``hint``."""
    if isinstance(annotation, str):
        field = _type_of(hint)
        field.about = annotation
    else:
        field = copy(annotation)
        field.allow_none = NoneType in get_args(hint)
    return field


def _described(field: Field[Any]) -> JSONSchema:
    schema = field.json_schema()
    if field.allow_none:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {"description": field.about, **schema} if field.about else schema


def _is_shape(hint: Any) -> bool:
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "__total__"))
