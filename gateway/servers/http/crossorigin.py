"""Pages of other origins at an Engine.IO server (the Fetch standard, section 3.3): who may connect, and read."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gateway.servers.hooks import environ_of

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Options(Protocol):
    """What is read of an ``engineio.AsyncServer``, for each request: an application may change it."""

    cors_allowed_origins: Any
    """As python-engineio has it: None for the same host, ``*``, ``[]`` to check nothing, a list, or a function."""
    cors_credentials: Any
    """Whether pages may send cookies: a bool, or a function of the origin."""


class CrossOrigin:
    """The rules of one server."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def allows(self, request: web.BaseRequest) -> bool | Awaitable[bool]:
        """Whether the page that makes a request may: ``cors_allowed_origins``, by default those of the same host.

        Raises:
            ValueError: its header ``Origin`` is not an origin.
        """
        origins, allowed = request.headers.getall(hdrs.ORIGIN, []), self._options.cors_allowed_origins
        if not origins or allowed == []:
            return True
        if len(origins) > 1:
            raise ValueError("the header Origin must come once")
        origin = origins[0]
        try:
            origin.encode()  # it goes into the reply, where bytes that are not UTF-8 cannot go
            host = urlsplit(origin).netloc
        except ValueError:
            raise ValueError("the header Origin must be an origin") from None
        if allowed == "*":
            return True
        if allowed is None:
            return host == request.host
        if callable(allowed):
            answer = allowed(*([origin, environ_of(request)][: len(inspect.signature(allowed).parameters)]))
            return cast("Awaitable[bool]", answer) if inspect.isawaitable(answer) else bool(answer)
        return "*" in allowed or origin in ([allowed] if isinstance(allowed, str) else allowed)

    def allows_now(self, request: web.BaseRequest) -> bool:
        """Whether that is certain at once: not where the application has to be awaited, or the header is wrong."""
        try:
            allowed = self.allows(request)
        except ValueError:
            return False
        if inspect.iscoroutine(allowed):
            allowed.close()
        return allowed is True

    def share(self, request: web.BaseRequest, response: web.Response) -> None:
        """Let the page that made the request read the reply."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self._options.cors_allowed_origins == []:
            return
        headers, credentials = response.headers, self._options.cors_credentials
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.VARY] = hdrs.ORIGIN
        if credentials(origin) if callable(credentials) else credentials:
            headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        if request.method == hdrs.METH_OPTIONS:
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "OPTIONS, GET, POST"
            wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
            if wanted is not None:
                headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
