"""Reverse proxies: a small one of our own that has the gateway below a path, and, where the machine has it, nginx as
docs/deployment.md configures it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.process import die_with_parent, stable_port
from harness.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFIX = "/chat"
NGINX = ["nginx"] if shutil.which("nginx") else []
PROXIES = ["small", *NGINX]
DOCUMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


class SmallProxy:
    """Forwards the first request of each connection, and then all bytes of both sides."""

    def __init__(self, upstream: str, *, strip: bool) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self._strip = strip
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            up_writer.write(self._rewrite(head.decode("latin-1")).encode("latin-1"))
            await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
        writer.close()

    def _rewrite(self, head: str) -> str:
        """What a proxy changes: the path, the host, and that it keeps no connection for the next request."""
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, version = first.split(" ")
        if self._strip:
            target = target.removeprefix(PREFIX)
        headers = dict(line.split(": ", 1) for line in lines)
        headers |= {"X-Forwarded-Host": headers["Host"], "X-Forwarded-Proto": "http", "Host": "10.0.0.1:8080"}
        if "Upgrade" not in headers:
            headers["Connection"] = "close"
        return "\r\n".join([f"{method} {target} {version}", *map(": ".join, headers.items()), "", ""])

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def reverse_proxy(kind: str, upstream: str, folder: Path, *, strip: bool) -> AsyncIterator[str]:
    """The URL below which ``upstream`` is served. ``strip``: it does not see the path."""
    if kind == "small":
        proxy = SmallProxy(upstream, strip=strip)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PREFIX}"
        finally:
            server.close()
            await proxy.close()
        return
    config = shown_config("upstream gateway {").replace("127.0.0.1:8080", urlsplit(upstream).netloc)
    if not strip:
        config = config.replace("proxy_pass http://gateway/;", "proxy_pass http://gateway;")
    async with nginx(config, folder) as url:
        yield f"{url}{PREFIX}"


@asynccontextmanager
async def nginx_balancing(addresses: list[str], folder: Path) -> AsyncIterator[str]:
    """The URL of nginx in front of three gateways."""
    config = shown_config("upstream gateways {")
    for number, address in enumerate(addresses, start=11):
        config = config.replace(f"10.77.0.{number}:8080", address)
    async with nginx(config, folder) as url:
        yield url


def shown_config(part: str) -> str:
    """The configuration of nginx in the documentation that has this ``part``."""
    (config,) = [text for text in re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if part in text]
    return str(config)


@asynccontextmanager
async def nginx(config: str, folder: Path) -> AsyncIterator[str]:
    """The URL of an nginx with this configuration, in which it listens on port 80."""
    port = stable_port()
    path = _write_config(config.replace("listen 80", f"listen 127.0.0.1:{port}"), folder)
    process = await asyncio.create_subprocess_exec("nginx", "-c", path, "-p", folder, preexec_fn=die_with_parent)
    try:
        await _listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def _write_config(config: str, folder: Path) -> Path:
    """With all that a test must not share with others."""
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/errors;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{config}}}\n"
    )
    return path


async def _listening(port: int) -> None:
    async def is_listening() -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        return False

    await poll_until(is_listening)
