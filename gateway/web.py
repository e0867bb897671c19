"""The web client, at ``/``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of every reply, whether or not it is a page: a browser might take it for one."""

NOT_BUILT = "The gateway is running, but its web client was not built; see the section 'Develop' of README.md.\n"


def static_folder() -> Path:
    """The folder of the built web client in the installation."""
    return Path(str(resources.files("gateway").joinpath("static")))


def add_routes(app: web.Application, static: Path, base: str = "") -> None:
    """Serve the files that are in ``static``, the built web client, under the path ``base``."""
    files = {path.relative_to(static).as_posix(): path for path in static.rglob("*") if _is_public(path)}
    index = files.get("index.html")

    async def serve_index(request: web.Request) -> web.StreamResponse:
        if index is None:
            return web.Response(status=503, text=NOT_BUILT)
        return web.FileResponse(index, headers={"Cache-Control": "no-cache"})

    async def serve_file(request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"]
        path = files.get(name)
        if path is None:
            raise web.HTTPNotFound
        # The names in assets/ carry a hash of the content.
        cache = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
        return web.FileResponse(path, headers={"Cache-Control": cache})

    app.router.add_get(f"{base}/", serve_index)
    app.router.add_get(f"{base}/{{path:.*}}", serve_file)
    if base:
        _redirect_to(app, base)


def _redirect_to(app: web.Application, base: str) -> None:
    """Point requests outside of ``base`` to it."""

    async def redirect(request: web.Request) -> web.Response:
        query = request.rel_url.raw_query_string
        # Relative to the URL of the request, so that it also works under a proxy's /apps/chat.
        return web.Response(status=302, headers={"Location": f"{base.rpartition('/')[2]}/{query and f'?{query}'}"})

    async def not_found(request: web.Request) -> web.Response:
        return web.Response(status=404, text=f"Not found: everything here is under {base}/ (see --base-path).\n")

    app.router.add_get(base, redirect)
    app.router.add_route("*", "/{path:.*}", not_found)


def _is_public(path: Path) -> bool:
    """Whether a file is neither hidden nor the compressed copy of another, which aiohttp finds by itself."""
    return path.is_file() and not path.name.startswith(".") and path.suffix not in {".br", ".gz"}
