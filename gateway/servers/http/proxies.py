"""The headers that a proxy adds to the requests that it forwards. They count only if they come from a trusted proxy:
anyone can send them.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import hdrs

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Proxies:
    """The proxies in front of a server, by the addresses from which they connect."""

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks
        self._is_in = lru_cache(maxsize=1024)(self._look_up)

    def trusts(self, request: BaseRequest) -> bool:
        """Whether a request comes from one of them. A connection to a Unix socket, whose address is empty, does."""
        peer = request.remote if self._networks else None
        return peer is not None and (not peer or self._is_in(peer))

    def host(self, request: BaseRequest) -> str:
        """The host, with its port, that the request was for; empty where the client named none."""
        return self._forwarded(request, hdrs.X_FORWARDED_HOST) or request.headers.get(hdrs.HOST, "")

    def scheme(self, request: BaseRequest) -> str | None:
        """``http`` or ``https``, as the client has connected; None where no trusted proxy has added that."""
        return SCHEMES.get(self._forwarded(request, hdrs.X_FORWARDED_PROTO).lower())

    def _forwarded(self, request: BaseRequest, header: str) -> str:
        """What the proxy has added: the last entry, for those before it are what it was sent."""
        lines = request.headers.getall(header, [])
        if not lines or not self.trusts(request):
            return ""
        return lines[-1].rpartition(",")[2].strip()

    def _look_up(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
