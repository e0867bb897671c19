"""Pages of other origins: which may connect, with cookies or without, and what a proxy in front may say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.http import WEBSOCKET_HEADERS, Response, request
from harness.http1 import connection, head
from harness.names import fresh_name
from harness.raw import ENGINE
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway

POLLING = f"{ENGINE}&transport=polling"
CREDENTIALS = "access-control-allow-credentials"
ORIGIN = "access-control-allow-origin"


async def responses_to(gateway: GatewayProcess, headers: dict[str, str]) -> tuple[Response, Response, Response]:
    """To long-polling, and to handshakes on both wires. The last two are only HTTP: then the connection ends."""
    polled = await request("GET", gateway.url + POLLING, headers=headers)
    shaken = []
    for path in (f"{ENGINE}&transport=websocket", f"/username/{fresh_name()}"):
        async with connection(gateway.url) as tcp:
            tcp.send(head(path, {**WEBSOCKET_HEADERS, **headers}.items()))
            shaken.append(await tcp.response())
    return polled, shaken[0], shaken[1]


async def may(gateway: GatewayProcess, origin: str, **headers: str) -> bool:
    """Whether pages of ``origin`` get in: on all wires, or on none."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    statuses = [response.status for response in await responses_to(gateway, {"Origin": origin, **named})]
    assert statuses in ([200, 101, 101], [403, 403, 403]), statuses
    return statuses[0] == 200


LISTED = "https://Chat.Example:443, https://*.apps.example, http://*.lan:8080, capacitor://localhost, tauri://localhost"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://chat.example", True),
        ("https://chat.example:443", True),
        ("https://chat.example:8443", False),
        ("http://chat.example", False),
        ("https://evil-chat.example", False),
        ("https://chat.example.evil.example", False),
        ("https://a.apps.example", True),
        ("https://a.b.apps.example", True),
        ("https://apps.example", False),
        ("https://.apps.example", False),
        ("https://*.apps.example", False),
        ("https://evil-apps.example", False),
        ("https://evilapps.example", False),
        ("http://a.apps.example", False),
        ("https://a.apps.example:8443", False),
        ("https://a.apps.example.evil.example", False),
        ("https://evil.example/.apps.example", False),
        ("https://evil.example#.apps.example", False),
        ("https://user@a.apps.example", False),
        ("http://pc.lan:8080", True),
        ("http://pc.lan", False),
        ("capacitor://localhost", True),
        ("tauri://localhost", True),
        ("capacitor://localhost:1", False),
        ("null", False),
        ("", False),
        ("*", False),
        ("x" * 5000, False),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_only_listed_origins_may_connect(start_gateway: StartGateway, origin: str, allowed: bool) -> None:
    """A listed origin has the form that browsers send; a pattern covers the subdomains of its domain only."""
    own = await start_gateway(allowed_origins=LISTED)
    assert await may(own, origin) is allowed


async def test_null_may_connect_where_it_is_listed(start_gateway: StartGateway) -> None:
    own = await start_gateway(allowed_origins="null")
    assert await may(own, "null")
    assert not await may(own, "https://null")


@pytest.mark.parametrize(
    ("allowed_origins", "origin", "credentials"),
    [
        ("https://chat.example", "https://chat.example", True),
        ("https://*.chat.example", "https://a.chat.example", True),
        ("null", "null", True),
        ("*", "https://chat.example", False),
        ("*", "null", False),
        ("*,https://chat.example", "https://chat.example", True),
        ("*,https://chat.example", "https://evil.example", False),
        ("https://chat.example", "http://own.example", False),
    ],
)
async def test_only_listed_origins_may_send_cookies(
    start_gateway: StartGateway, allowed_origins: str, origin: str, credentials: bool
) -> None:
    """Where all origins may connect, any page may, but without the cookies of the browser."""
    own = await start_gateway(allowed_origins=allowed_origins)
    headers = {"Origin": origin, "Host": "own.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-one, x-two"}
    polled = await request("GET", own.url + POLLING, headers=headers)
    preflight = await request("OPTIONS", own.url + POLLING, headers={**headers, **asked})
    unknown = await request("POST", f"{own.url}{POLLING}&sid=unknown", headers=headers, data="40")
    for response, status in ((polled, 200), (preflight, 200), (unknown, 400)):
        assert response.status == status
        assert response.headers[ORIGIN] == origin
        assert response.headers.get(CREDENTIALS) == ("true" if credentials else None)
        assert "origin" in response.headers["vary"].lower()
    assert preflight.headers["access-control-allow-headers"] == "x-one, x-two"


@pytest.mark.parametrize(("body", "status"), [(b"x" * 200_000, 413), (b"", 400)])
async def test_pages_can_read_why_they_are_refused(gateway: GatewayProcess, body: bytes, status: int) -> None:
    opened = await request("GET", gateway.url + POLLING)
    sid = opened.text.split('"sid":"')[1].split('"')[0]
    headers = {"Origin": "https://chat.example"}
    response = await request("POST", f"{gateway.url}{POLLING}&sid={sid}", headers=headers, data=body or b"9")
    assert (response.status, response.headers[ORIGIN]) == (status, "https://chat.example")


async def test_the_stock_client_sends_cookies(start_gateway: StartGateway, driver: Driver) -> None:
    """`withCredentials`, with a head as large as cookies of other services make it, on every transport."""
    own = await start_gateway(allowed_origins="https://chat.example")
    headers = {"Origin": "https://chat.example", "Cookie": f"other={'x' * 16_384}"}
    for transports in (["websocket"], ["polling"], ["polling", "websocket"]):
        options: dict[str, Any] = {"transports": transports, "withCredentials": True, "extraHeaders": headers}
        async with SocketIOClient(driver, own.url, fresh_name(), **options) as client:
            await client.wait_for_transport(transports[-1])
            assert (await client.call("list-rooms"))["ok"]


@pytest.mark.parametrize("way", ["at once", "in pieces"])
@pytest.mark.parametrize(("size", "fits"), [(16_384, True), (40_000, False)])
async def test_cookies_of_16_kib_are_accepted(gateway: GatewayProcess, way: str, size: int, fits: bool) -> None:
    """On handshakes of both wires and both entrances, and on pages. Larger ones are refused with the reason."""
    for path, status in ((f"{ENGINE}&transport=websocket", 101), (f"/username/{fresh_name()}", 101), ("/health", 200)):
        upgrade = {} if path == "/health" else WEBSOCKET_HEADERS
        asked = head(path, {**upgrade, "Cookie": f"a={'x' * size}"}.items())
        async with connection(gateway.url) as tcp:
            if way == "at once":
                tcp.send(asked)
            else:
                await tcp.send_in_pieces(asked, 3000)
            response = await tcp.response()
            assert response.status == (status if fits else 400)
            assert fits or "too long" in response.text


HOST = {"Host": "10.1.2.3:8080"}


@pytest.mark.parametrize("trust", ["127.0.0.0/8", "::1,127.0.0.1", "*", "10.0.0.0/8", None])
async def test_a_trusted_proxy_supplies_the_host_and_scheme(start_gateway: StartGateway, trust: str | None) -> None:
    """`X-Forwarded-Host` and `-Proto` count where the proxy is trusted, and nowhere else."""
    settings = {} if trust is None else {"trust_proxy": trust}
    own = await start_gateway(allowed_origins="https://other.example", **settings)
    trusted = trust not in {"10.0.0.0/8", None}
    forwarded = {"X_Forwarded_Host": "chat.example", "X_Forwarded_Proto": "https", **HOST}
    assert await may(own, "https://chat.example", **forwarded) is trusted
    assert not await may(own, "http://chat.example", **forwarded)
    assert not await may(own, "https://chat.example:8443", **forwarded)
    assert not await may(own, "https://evil.example", **forwarded)
    # Without a proxy's word the gateway's own host counts, whatever the scheme.
    assert await may(own, "http://10.1.2.3:8080", **HOST)
    assert await may(own, "https://10.1.2.3:8080", **HOST)
    assert await may(own, "http://10.1.2.3:8080", X_Forwarded_Host="chat.example", **HOST) is not trusted


async def test_the_last_forwarded_value_counts(start_gateway: StartGateway) -> None:
    """Values that a client sent itself come before it, in the same line or in one of their own."""
    own = await start_gateway(allowed_origins="https://other.example", trust_proxy="127.0.0.1")
    for forwarded, origin, allowed in (
        ("evil.example, chat.example", "https://chat.example", True),
        ("evil.example, chat.example", "https://evil.example", False),
        ("CHAT.example:443", "https://chat.example", True),
        ("chat.example:8443", "https://chat.example:8443", True),
        ("chat.example:8443", "https://chat.example", False),
    ):
        assert await may(own, origin, X_Forwarded_Host=forwarded, X_Forwarded_Proto="http, https") is allowed
    lines = [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "chat.example")]
    for origin, status in (("https://evil.example", 403), ("https://chat.example", 200)):
        async with connection(own.url) as tcp:
            tcp.send(head(POLLING, [*lines, ("Origin", origin)]))
            assert (await tcp.response()).status == status


async def test_two_origin_headers_are_refused(gateway: GatewayProcess) -> None:
    """It is unknown which of them is the page's; the server does not guess, not even where all may connect."""
    lines = [("Origin", "https://chat.example"), ("Origin", "https://evil.example")]
    paths = {POLLING: 400, f"{ENGINE}&transport=websocket": 400, f"/username/{fresh_name()}": 403}
    for path, status in paths.items():
        async with connection(gateway.url) as tcp:
            tcp.send(head(path, [*lines, *({} if path == POLLING else WEBSOCKET_HEADERS).items()]))
            assert (await tcp.response()).status == status


@pytest.mark.parametrize("origin", ["\xff", "http://\xe4.example", "http://\ud83d", "\t'\""])
async def test_an_origin_of_odd_characters_is_refused(start_gateway: StartGateway, origin: str) -> None:
    """And can be quoted. On Socket.IO, what is not UTF-8 is a bad request."""
    own = await start_gateway(allowed_origins="https://chat.example")
    polled = 400 if "\ud83d" in origin else 403
    for path, upgrade, status in ((POLLING, {}, polled), (f"/username/{fresh_name()}", WEBSOCKET_HEADERS, 403)):
        async with connection(own.url) as tcp:
            asked = head(path, [*upgrade.items(), ("Origin", "ORIGIN")])
            tcp.send(asked.replace(b"ORIGIN", origin.encode("utf-8", "surrogatepass")))
            response = await tcp.response()
            assert response.status == status
            assert response.text
    own.check_log()


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]x["])
async def test_an_unreadable_origin_causes_no_server_error(gateway: GatewayProcess, origin: str) -> None:
    response = await request("GET", gateway.url + POLLING, headers={"Origin": origin})
    assert response.status == 400
