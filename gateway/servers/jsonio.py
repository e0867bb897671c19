"""JSON as clients send it: read by orjson, and by the standard library what orjson is too strict for.

``text.slice(0, n)`` in a browser can leave half of an emoji, a lone surrogate, which `JSON.stringify` writes as an
escape (RFC 8259, section 8.2, leaves it open what a reader makes of it). The frame is still JSON and its sender still
gets a reply: only the field with half a character in it is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

MAX_SHOWN: Final = 100
"""How many characters an error shows of a name that a client has chosen."""

MAX_MEMBERS: Final = 1_000
"""How many members of an object are searched for one, at most. That takes a millisecond, in which no other client is
served.
"""

MODULE_WANTED: Final = (
    "json= must be a module, or an object, with dumps(value, separators=(',', ':')) that returns a str, and "
    "loads(text), as those of the standard library; wrap what differs, such as orjson, in a class with these two"
)

_SPACE: Final = re.compile(r"[ \t\n\r]*")

_scan: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode
"""Where a value ends; what it is does not matter."""


def decode(data: str | bytes) -> Any:
    """The JSON value in ``data``.

    Raises:
        ValueError: not JSON (RFC 8259; neither ``NaN`` nor ``Infinity`` is), or nested too deeply. A number that is
            too large for a float is infinite, as in JavaScript.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            text = data if isinstance(data, str) else data.decode()
            return json.loads(text, parse_constant=_refuse, parse_int=_whole)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


class PacketJSON:
    """Our JSON, as the Socket.IO libraries call their JSON module."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        try:
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # what orjson is too strict for, such as an integer of more than 64 bits
            return json.dumps(value, separators=(",", ":"))

    loads = staticmethod(decode)


def check_module(module: Any) -> None:
    """Raises ValueError where ``module``, the option ``json`` of an application, cannot do what the libraries ask of
    it.
    """
    try:
        written = module.dumps([{"a": 1}], separators=(",", ":"))
        works = isinstance(written, str) and module.loads(written) == [{"a": 1}]
    except Exception as error:  # whatever another's function makes of arguments that it does not know
        raise ValueError(MODULE_WANTED) from error
    if not works:
        raise ValueError(MODULE_WANTED)


def raw_member(data: bytes, name: str, value: Any) -> bytes:
    """The member ``name`` of the JSON object in ``data``, as it is written there; ``value`` is what `decode` has read.

    Raises:
        ValueError: it is nested too deeply, or hidden among too many others.
    """
    if value is None or value is True or value is False or (type(value) is int and value):
        return json.dumps(value).encode()  # there is no other way to write it
    if type(value) is str and b"\\" not in data:
        return b'"%b"' % value.encode()
    try:
        return _find_member(data.decode(), name).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _find_member(text: str, name: str) -> str:
    """The last member of that name counts, as for all readers of JSON."""
    found = ""
    index = _skip_space(text, 0)
    for _ in range(MAX_MEMBERS):
        # Here is the brace of the object, or a comma.
        key, index = _scan(text, _skip_space(text, index + 1))
        start = _skip_space(text, _skip_space(text, index) + 1)
        _, end = _scan(text, start)
        if key == name:
            found = text[start:end]
        index = _skip_space(text, end)
        if text[index] == "}":
            return found
    raise ValueError(f"in an object of more than {MAX_MEMBERS} members")


def _skip_space(text: str, index: int) -> int:
    space = _SPACE.match(text, index)
    return index if space is None else space.end()


def shorten(text: str) -> str:
    """What an error shows of a name that a client has made up."""
    return text[:MAX_SHOWN]


def printable(text: str) -> str:
    """What an error shows of a name, with a question mark for every half of a character."""
    return shorten(text).encode(errors="replace").decode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _whole(digits: str) -> int | float:
    """An integer; of more digits than Python takes (4,300, for that takes long), what JavaScript makes of it."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)
