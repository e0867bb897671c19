"""Signed headers: a request shows that it comes from somebody who has the same secret (HMAC, RFC 2104).

The header has the time, a word for what is claimed, and the MAC of both and of the parts of the request that are signed
with them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_AGE: Final = 30.0
"""How old a signature may be, in seconds: more than a busy node takes to read a request. A signature that was recorded
is of no use after it.
"""


def sign(secret: bytes, now: float, claim: str, parts: Iterable[str]) -> str:
    """The value of a header that signs ``parts`` and ``claim``, a word. ``now``: seconds, on the clock of `verify`."""
    signed = f"{round(now * 1000)} {claim}"
    return f"{signed} {_mac(secret, signed, parts)}"


def verify(secret: bytes, now: float, value: str, parts: Iterable[str]) -> str | None:
    """The word that was claimed; None if ``value`` is no signature of ``parts``, or is too old."""
    signed, _, mac = value.rpartition(" ")
    if not hmac.compare_digest(_encode(mac), _encode(_mac(secret, signed, parts))):
        return None
    time, _, claim = signed.partition(" ")
    return claim if abs(now * 1000 - int(time)) <= MAX_AGE * 1000 else None


def _mac(secret: bytes, signed: str, parts: Iterable[str]) -> str:
    """No part has a line feed: it comes from the head of a request."""
    return hmac.new(secret, _encode("\n".join((signed, *parts))), hashlib.sha256).hexdigest()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
