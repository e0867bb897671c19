"""Which web pages may connect (RFC 6454). Clients other than browsers send no ``Origin``, and are always allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs

from gateway.addresses import ANY, DEFAULT_PORTS, covers, same_form
from gateway.errors import Unauthorized
from gateway.servers.http.proxies import Proxies

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest


class OriginPolicy:
    def __init__(self, allowed: tuple[str, ...], proxies: Proxies | None = None) -> None:
        """``allowed``: origins and patterns as `gateway.addresses.parse_origin` returns them, or ``*`` for all.
        ``proxies``: those trusted to report which host a request was for.
        """
        self._all = ANY in allowed
        self._allowed = frozenset(origin for origin in allowed if "*" not in origin)
        self._patterns = tuple(origin for origin in allowed if "*" in origin and origin != ANY)
        self._proxies = proxies or Proxies(())

    def allows(self, request: BaseRequest) -> bool:
        """Whether the page that makes a request may connect: its origin is allowed, or is the gateway's own."""
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if not origins:
            return True
        if len(origins) > 1:
            return False  # it is unknown which of them the browser sent
        return self._all or self.lists(origins[0]) or self._is_own(origins[0], request)

    def lists(self, origin: str) -> bool:
        """Whether the operator has named ``origin``, so that its pages may send credentials such as cookies."""
        formed = same_form(origin)
        if formed is None:
            return False
        return formed in self._allowed or any(covers(pattern, formed) for pattern in self._patterns)

    def check(self, request: BaseRequest) -> None:
        """Raises Unauthorized."""
        if not self.allows(request):
            origin = ascii(request.headers[hdrs.ORIGIN][:100])[1:-1]
            raise Unauthorized(f"Pages of {origin} may not connect here; see --allowed-origins.")

    def _is_own(self, origin: str, request: BaseRequest) -> bool:
        """Whether a page comes from the host that the request is for, and by the same scheme if that is known."""
        formed = same_form(origin)
        if formed is None:
            return False
        scheme = formed.partition("://")[0]
        asked = self._proxies.scheme(request) or scheme
        return scheme in DEFAULT_PORTS and formed == same_form(f"{asked}://{self._proxies.host(request)}")
