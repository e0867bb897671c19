"""JSON as clients send it: read by orjson, and by the standard library what orjson is too strict for.

``text.slice(0, n)`` in a browser can leave half of an emoji, a lone surrogate, which `JSON.stringify` writes as an
escape (RFC 8259, section 8.2, leaves it open what a reader makes of it). The frame is still JSON and its sender still
gets an answer: it is the field with half a character in it that is refused.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from gateway.errors import MAX_NAME


def decode(data: str | bytes) -> Any:
    """The JSON value in ``data``.

    Raises:
        ValueError: it is none (RFC 8259; neither ``NaN`` nor ``Infinity`` is), or nested too deeply.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data, parse_constant=_refuse, parse_float=_finite)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def echo(value: Any) -> orjson.Fragment:
    """``value``, which `decode` has read, as JSON to put into an answer.

    Raises:
        ValueError: it is nested too deeply.
    """
    try:
        return orjson.Fragment(orjson.dumps(value))
    except TypeError:
        try:
            return orjson.Fragment(json.dumps(value).encode())
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def shorten(text: str) -> str:
    """What an error shows of a name that a client has made up."""
    return text[:MAX_NAME]


def printable(text: str) -> str:
    """What an error shows of a name, with a question mark for every half of a character."""
    return shorten(text).encode(errors="replace").decode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number
