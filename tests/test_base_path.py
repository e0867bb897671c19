"""The gateway below a path: by itself with --base-path, and behind proxies that strip the path or keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.web import static_folder
from harness.client import make_room, succeed
from harness.http import request
from harness.http1 import connection, head
from harness.names import fresh_name
from harness.plain import JsonClient
from harness.reverse import PREFIX, PROXIES, reverse_proxy
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from pathlib import Path

    from harness.node import Driver
    from harness.process import StartGateway

ASSET = next(f"assets/{path.name}" for path in sorted(static_folder().glob("assets/*.js")))


async def works_at(url: str, driver: Driver, **options: Any) -> None:
    """The page, its files, the health check, and a talk between clients of both wires, all below ``url``."""
    page = await request("GET", f"{url}/", allow_redirects=False)
    assert (page.status, page.headers["content-type"]) == (200, "text/html")
    for path, kind in ((ASSET, "javascript"), ("health", "json")):
        response = await request("GET", f"{url}/{path}")
        assert response.status == 200
        assert kind in response.headers["content-type"]
    assert (await request("GET", f"{url}/nothing")).status == 404
    assert (await request("GET", f"{url}/username/No")).status == 404
    host, _, path = url.removeprefix("http://").partition("/")
    for transports in (["polling"], ["websocket"], ["polling", "websocket"]):
        engine = {"path": f"/{path}/socket.io", "transports": transports, **options}
        async with (
            SocketIOClient(driver, f"http://{host}", fresh_name(), **engine) as one,
            JsonClient(url, fresh_name()) as other,
        ):
            await one.wait_for_transport(transports[-1])
            room = await make_room(one, other)
            await succeed(one, "send-msg", room=room, content="hello")
            assert (await other.next_event("message")).fields["content"] == "hello"
            await succeed(other, "send-msg", room=room, content="hello yourself")
            assert (await one.next_event("message")).fields["content"] == "hello yourself"


async def test_everything_is_served_below_the_base_path(start_gateway: StartGateway, driver: Driver) -> None:
    """Also in what is printed. Other paths are 404, and name the base path."""
    own = await start_gateway(base_path=f"{PREFIX}/")
    assert own.url.endswith(PREFIX)
    await works_at(own.url, driver)
    root = own.url.removesuffix(PREFIX)
    for path in (
        "/",
        "/health",
        "/chatter",
        "/chatter/",
        "/socket.io/?EIO=4&transport=polling",
        "/username/alice",
        f"/{ASSET}",
    ):
        response = await request("GET", f"{root}{path}", allow_redirects=False)
        assert response.status == 404, path
        assert f"{PREFIX}/" in response.text


@pytest.mark.parametrize("query", ["", "?a=1&b=%0d%0ax:%20y"])
async def test_the_path_without_a_slash_redirects_to_the_page(start_gateway: StartGateway, query: str) -> None:
    """By a relative URL, which also works behind a proxy that has a prefix of its own."""
    own = await start_gateway(base_path="/a/chat")
    async with connection(own.url) as tcp:
        tcp.send(head(f"/a/chat{query}"))
        response = await tcp.response()
        assert (response.status, response.headers["location"].partition("?")[0]) == (302, "chat/")
        assert "x" not in response.headers
    assert (await request("GET", f"{own.url}{query}")).status == 200


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("strip", [True, False])
async def test_the_gateway_works_behind_a_proxy_at_a_path(
    start_gateway: StartGateway, driver: Driver, tmp_path: Path, kind: str, strip: bool
) -> None:
    """With the path stripped or kept; pages of the proxy's host may connect where only those of the gateway may."""
    settings = {} if strip else {"base_path": PREFIX}
    own = await start_gateway(allowed_origins="https://other.example", trust_proxy="127.0.0.1", **settings)
    async with reverse_proxy(kind, own.url.removesuffix(PREFIX), tmp_path, strip=strip) as url:
        origin = url.removesuffix(PREFIX)
        await works_at(url, driver, extraHeaders={"Origin": origin})
        engine = f"{url}/socket.io/?EIO=4&transport=polling"
        for asker, status in ((origin, 200), (origin.replace("http:", "https:"), 403), ("http://evil.example", 403)):
            assert (await request("GET", engine, headers={"Origin": asker})).status == status
