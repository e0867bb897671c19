"""Health checks, for platforms, load balancers and people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engines.base import Durability


def add_routes(
    app: web.Application,
    base: str = "",
    *,
    is_stopping: Callable[[], bool],
    problem: Callable[[], str | None],
    durability: Callable[[], Durability],
) -> None:
    """Serve, under the path ``base``: ``/health/live``, 200 as long as the event loop runs; ``/health/ready``, 200
    while clients can be served, else 503 with the reason; and ``/health``, the same as ``/health/ready``. ``problem``
    returns what is wrong with the store, if anything; ``durability`` is what its acks mean.
    """

    async def live(request: web.Request) -> web.Response:
        return _respond("ok")

    async def ready(request: web.Request) -> web.Response:
        if is_stopping():
            return _respond("stopping", "the gateway is stopping")
        reason = problem()
        if reason is not None:
            return _respond("unavailable", reason)
        return _respond("ok", durability=durability().value)

    app.router.add_get(f"{base}/health/live", live)
    app.router.add_get(f"{base}/health/ready", ready)
    app.router.add_get(f"{base}/health", ready)


def _respond(status: str, reason: str | None = None, **more: str) -> web.Response:
    body = {"status": status, **more} if reason is None else {"status": status, "reason": reason}
    headers = {"Cache-Control": "no-store"}
    return web.json_response(body, status=200 if reason is None else 503, headers=headers)
