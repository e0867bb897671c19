"""Names that nobody can guess: of sessions, connections and messages."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 128
"""Asking the system for random bytes takes longer than all else of it: it is asked for so many tokens at once."""


def tokens(size: int) -> Iterator[str]:
    """Strings of ``size`` random bytes, a multiple of three, in the alphabet of URLs (RFC 4648, section 5)."""
    if size % 3:
        raise ValueError("three bytes make four characters")
    length = size // 3 * 4
    while True:
        characters = secrets.token_urlsafe(size * AT_ONCE)
        for start in range(0, len(characters), length):
            yield characters[start : start + length]


def hash_token(token: str) -> str:
    """What may be kept of a token in its place: its SHA-256, in hex.

    Against guessing, 192 random bits need neither salt nor a hash that is slow, as passwords do.
    """
    return hashlib.sha256(token.encode()).hexdigest()
