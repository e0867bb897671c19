"""The web client, at ``/``."""

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
    """Serve the files of ``static``, the built web client as it is now."""
    files = {f"/{path.relative_to(static).as_posix()}": path for path in static.rglob("*") if _is_public(path)}
    index = files.get("/index.html")

    async def serve_index(request: web.Request) -> web.StreamResponse:
        if index is None:
            return web.Response(status=503, text=NOT_BUILT, headers=SECURITY_HEADERS)
        return web.FileResponse(index, headers={**SECURITY_HEADERS, "Cache-Control": "no-cache"})

    async def serve_file(request: web.Request) -> web.StreamResponse:
        path = files.get(request.path)
        if path is None:
            raise web.HTTPNotFound(headers=SECURITY_HEADERS)
        # The names in assets/ carry a hash of the content.
        cache = "public, max-age=31536000, immutable" if request.path.startswith("/assets/") else "no-cache"
        return web.FileResponse(path, headers={**SECURITY_HEADERS, "Cache-Control": cache})

    app.router.add_get("/", serve_index)
    app.router.add_get("/{path:.*}", serve_file)


def _is_public(path: Path) -> bool:
    """Neither hidden nor the compressed twin of a file, which aiohttp finds by itself."""
    return path.is_file() and not path.name.startswith(".") and path.suffix not in {".br", ".gz"}
