"""Which web pages may connect (RFC 6454). Clients that are no browsers send no ``Origin`` and always may."""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.errors import Unauthorized


class OriginPolicy:
    def __init__(self, allowed: tuple[str, ...]) -> None:
        """``allowed``: origins such as ``https://chat.example``, or ``*`` for all."""
        self._all = "*" in allowed
        self._allowed = frozenset(allowed)

    def allows(self, origin: str | None, host: str) -> bool:
        """Whether a page of ``origin`` may connect to ``host``: its own gateway, or one that allows it."""
        if origin is None or self._all or origin in self._allowed:
            return True
        try:
            return urlsplit(origin).netloc == host
        except ValueError:
            return False

    def check(self, origin: str | None, host: str) -> None:
        """Raises Unauthorized."""
        if not self.allows(origin, host):
            raise Unauthorized(f"Pages of {origin} may not connect here; see --allowed-origins.")
