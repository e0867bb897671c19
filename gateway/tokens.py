"""Unguessable ids, for sessions, connections and messages."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_SIZE = 128
"""For how many tokens random bytes are requested at once: most of the cost of a token is the system call."""


def tokens(size: int) -> Iterator[str]:
    """Strings of ``size`` random bytes, a multiple of three, in URL-safe Base64 (RFC 4648, section 5)."""
    if size % 3:
        raise ValueError("three bytes make four characters")
    length = size // 3 * 4
    while True:
        characters = secrets.token_urlsafe(size * BATCH_SIZE)
        for start in range(0, len(characters), length):
            yield characters[start : start + length]


def hash_token(token: str) -> str:
    """The SHA-256 of a token, in hex, which is stored instead of it.

    Unlike passwords, 192 random bits cannot be guessed, and need neither a salt nor a slow hash.
    """
    return hashlib.sha256(token.encode()).hexdigest()
