"""The form of offsets: ``<epoch>-<position>``, 12 hexadecimal digits and a number of at most 18.

Clients do not look into them. They share a field with the ids of messages, though (``before``), so that no message may
have an id of this form.
"""

from __future__ import annotations

import re
from typing import Final

_OFFSET: Final = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})")


def parse_offset(text: str) -> tuple[str, int] | None:
    """The epoch and the position in ``text``, or None if it does not have the form of an offset."""
    match = _OFFSET.fullmatch(text)
    return None if match is None else (match[1], int(match[2]))


def looks_like_offset(text: str) -> bool:
    """Whether ``text`` has the form of an offset, of whatever store."""
    return _OFFSET.fullmatch(text) is not None
