"""What the gateway serves over plain HTTP."""

from __future__ import annotations

import asyncio

import pytest

from gateway.web import static_folder
from harness.http import Response, request
from harness.http1 import connection, head
from harness.process import GatewayProcess, StartGateway


async def test_the_page_and_its_files_are_served(gateway: GatewayProcess) -> None:
    """The page is revalidated each time, its assets are cached for ever; both with security headers."""
    page = await request("GET", gateway.url + "/")
    assert page.status == 200
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    script = next(word for word in page.text.split('"') if word.startswith("./assets/") and word.endswith(".js"))
    response = await request("GET", gateway.url + script.removeprefix("."))
    assert (response.status, response.headers["x-content-type-options"]) == (200, "nosniff")
    assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/gone-123.js",
        "/nothing",
        "/.sources.sha256",
        "/assets/%2e%2e/%2e%2e/cli.py",
        "/%2e%2e/cli.py",
        "/" + "x" * 5000,
    ],
    ids=lambda path: path[:20],
)
async def test_a_missing_file_is_404_and_not_cached(gateway: GatewayProcess, path: str) -> None:
    """Neither hidden files nor others of the installation are served, and a long path causes no server error."""
    response = await request("GET", gateway.url + path)
    assert response.status == 404
    assert "cache-control" not in response.headers


def test_the_page_is_small() -> None:
    """All its scripts together are less than 120 kB, as they travel."""
    scripts = [path.stat().st_size for path in static_folder().rglob("*.js.gz")]
    assert 10_000 < sum(scripts) < 120_000


POLLING = "/socket.io/?EIO=4&transport=polling"
REPLIES = [
    ("GET", "/", 200),
    ("HEAD", "/", 200),
    ("GET", "/health", 200),
    ("GET", "/nothing", 404),
    ("POST", "/", 405),
    ("BREW", "/health", 400),
    ("GET", POLLING, 200),
    ("OPTIONS", POLLING, 200),
    ("PUT", POLLING, 400),
    ("GET", f"{POLLING}&sid=unknown", 400),
    ("GET", "/socket.io/?EIO=3&transport=polling", 400),
    ("GET", "/socket.io/", 400),
    ("GET", "/socket.io/?EIO=4&transport=websocket", 400),
    ("GET", "/username/alice", 426),
    ("GET", "/username/No", 404),
    ("GET", "/username/alice?format=x", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), REPLIES)
async def test_every_response_has_the_security_headers(
    gateway: GatewayProcess, method: str, path: str, status: int
) -> None:
    """Whatever part made it; and none names the software."""
    async with connection(gateway.url) as tcp:
        tcp.send(head(path, method=method))
        response = await tcp.response(body=method != "HEAD")
        assert response.status == status
        check_headers(response)


@pytest.mark.parametrize("asked", [b"\x16\x03\x01\x00\xa5", b"GET\r\n\r\n", head("/", [("X", "x" * 40_000)])])
async def test_the_response_to_a_malformed_request_has_the_headers(gateway: GatewayProcess, asked: bytes) -> None:
    async with connection(gateway.url) as tcp:
        tcp.send(asked)
        response = await tcp.response()
        assert response.status == 400
        check_headers(response)
        assert await tcp.ended() == b""


async def test_a_304_response_has_the_headers(gateway: GatewayProcess) -> None:
    page = await request("GET", gateway.url + "/")
    again = await request("GET", gateway.url + "/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status == 304
    check_headers(again)


async def test_the_response_to_a_refused_body_has_the_headers(gateway: GatewayProcess) -> None:
    opened = await request("GET", gateway.url + POLLING)
    sid = opened.text.split('"sid":"')[1].split('"')[0]
    response = await request("POST", f"{gateway.url}{POLLING}&sid={sid}", data=b"4" * 200_000)
    assert response.status == 413
    check_headers(response)


def check_headers(response: Response) -> None:
    assert response.headers["content-security-policy"].startswith("default-src 'self'")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert "server" not in response.headers


async def test_idle_connections_and_request_heads_have_their_own_timeouts(gateway: GatewayProcess) -> None:
    """By default a connection may be idle for longer than any balancer leaves it; a head still has ten seconds in
    all, on a connection that has had a request before. The one is idle until the other is closed.
    """
    async with connection(gateway.url) as idle, connection(gateway.url) as dripping:
        for tcp in (idle, dripping):
            tcp.send(head("/health"))
            await tcp.response()
        start = asyncio.get_running_loop().time()
        dripping.send(b"GET / HTTP/1.1\r\nX: ")
        response = asyncio.create_task(dripping.response())
        while not response.done():
            dripping.send(b"x")
            await asyncio.wait([response], timeout=0.5)
        assert (await response).status == 408
        assert 9.5 < asyncio.get_running_loop().time() - start < 15
        idle.send(head("/health"))
        assert (await idle.response()).status == 200


async def test_the_setting_limits_how_long_connections_are_idle(start_gateway: StartGateway) -> None:
    """Also after a poll, and with the next one they live on."""
    own = await start_gateway(keep_alive=1)
    async with connection(own.url) as tcp:
        for _ in range(3):
            await asyncio.sleep(0.6)  # less than the setting each time, and more together
            tcp.send(head(POLLING))
            assert (await tcp.response()).status == 200
        start = asyncio.get_running_loop().time()
        assert await tcp.ended() == b""
        assert 0.8 < asyncio.get_running_loop().time() - start < 10
