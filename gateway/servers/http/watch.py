"""Noticing that the client of an HTTP request is gone while the request is being handled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp.streams import EmptyStreamReader

from gateway.servers.hooks import exchange_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web


class ConnectionWatch(EmptyStreamReader):
    """Calls ``lost`` when the connection of a request is lost, as long as the context lasts. aiohttp reports that to
    the body of the request that is being handled, which this stands in for.
    """

    __slots__ = ("_body", "_lost", "_request")

    def __init__(self, request: web.BaseRequest, lost: Callable[[], None]) -> None:
        super().__init__()
        self._request = request
        self._body = request.content
        self._lost = lost

    def __enter__(self) -> None:
        exchange_body(self._request, self)
        if is_lost(self._request):
            self._lost()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        exchange_body(self._request, self._body)
        if kind is asyncio.CancelledError and is_lost(self._request):
            self._lost()  # an application that has its handlers cancelled (``handler_cancellation``)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        self._body.set_exception(exc)
        self._lost()

    def is_eof(self) -> bool:
        return self._body.is_eof()


def is_lost(request: web.BaseRequest) -> bool:
    """Whether the connection of a request is gone."""
    return request.transport is None or request.transport.is_closing()
