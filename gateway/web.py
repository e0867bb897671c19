"""What the gateway serves over plain HTTP: the web client at ``/``, and whether it is well at ``/health``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

NOT_BUILT = "The gateway runs, but its web client was not built; see the section 'Develop' of README.md.\n"


def static_folder() -> Path:
    """Where the installation put the built web client."""
    return Path(str(resources.files("gateway").joinpath("static")))


def add_routes(app: web.Application, static: Path) -> None:
    """Serve ``static``, the built web client, and the health check."""
    app.router.add_get("/health", _health)
    index = static / "index.html"

    async def serve_index(request: web.Request) -> web.StreamResponse:
        if not index.is_file():
            return web.Response(status=503, text=NOT_BUILT, headers=SECURITY_HEADERS)
        return web.FileResponse(index, headers={**SECURITY_HEADERS, "Cache-Control": "no-cache"})

    app.router.add_get("/", serve_index)
    if static.is_dir():
        app.router.add_static("/", static)
        app.on_response_prepare.append(_protect_files)


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _protect_files(request: web.Request, response: web.StreamResponse) -> None:
    """Security headers for every file; a year in the cache for those that carry a hash of their content in
    their names.
    """
    if isinstance(response, web.FileResponse):
        response.headers.update(SECURITY_HEADERS)
        if request.path.startswith("/assets/"):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
