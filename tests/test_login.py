"""Logging in, on every wire: who gets in, and how a refusal looks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.client import RefusedError, check_error, make_room, succeed
from harness.http import WEBSOCKET_HEADERS, request
from harness.names import fresh_name
from harness.plain import open_websocket, websocket_url
from harness.raw import ENGINE, RawSocketIO
from harness.stock import SocketIOClient

if TYPE_CHECKING:
    from harness.client import Join
    from harness.node import Driver
    from harness.process import GatewayProcess, StartGateway

NOT_USERNAMES = [
    "Alice",
    "al ice",
    "alice ",
    "a-b",
    "a_b",
    "a.b",
    "é",
    "\uff41",
    "\u0663",
    "a\n",
    "a\x00",
    "a" * 33,
    "%",
]
ALL_WIRES = ["socketio-websocket", "socketio-polling", "json", "bare"]


@pytest.mark.parametrize("wire", ALL_WIRES)
async def test_usernames_are_up_to_32_lowercase_letters_and_digits(join: Join, wire: str) -> None:
    """The shortest, the longest and an all-digit name get in on every wire."""
    number = ALL_WIRES.index(wire)
    for username in ("abcd"[number], str(number), fresh_name().ljust(32, "z"), f"{number:032}"):
        client: Any = await join(wire, username)
        assert await client.drain() == []


@pytest.mark.parametrize("username", ["", *NOT_USERNAMES])
async def test_other_names_are_invalid_over_socket_io(join: Join, username: str) -> None:
    """A username of another form is a connect_error with `invalid_username`."""
    with pytest.raises(RefusedError) as refusal:
        await join("socketio-websocket", auth={"username": username})
    check_error(refusal.value.error, "invalid_username")


@pytest.mark.parametrize("username", [5, 5.5, True, [], ["alice"], {}, {"username": "alice"}])
async def test_a_username_that_is_not_a_string_is_invalid(gateway: GatewayProcess, username: object) -> None:
    """ "Not a string of that form" holds for other types of JSON as well."""
    async with RawSocketIO(gateway.url) as raw:
        reply = await raw.connect({"username": username})
    assert reply.startswith("44"), reply
    check_data(reply, "invalid_username")


@pytest.mark.parametrize("auth", ["", "{}", '{"name":"alice"}', "[]", "5", '"alice"', "null", "true"])
async def test_a_missing_username_is_an_invalid_payload(gateway: GatewayProcess, auth: str) -> None:
    """Without a username in `auth` or in the URL a connect_error says `invalid_payload`."""
    async with RawSocketIO(gateway.url) as raw:
        reply = await raw.connect_text(auth)
    check_data(reply, "invalid_payload")


@pytest.mark.parametrize("field", [{"pid": 5}, {"pid": ["x"]}, {"offset": 5}, {"offset": {}}])
async def test_another_wrong_field_of_auth_is_an_invalid_payload(
    gateway: GatewayProcess, field: dict[str, Any]
) -> None:
    """A pid or an offset of the wrong type is named in `fields`."""
    async with RawSocketIO(gateway.url) as raw:
        reply = await raw.connect({"username": fresh_name(), "pid": "x", **field})
    data = check_data(reply, "invalid_payload")
    assert set(data["fields"]) == set(field)


def check_data(packet: str, code: str) -> dict[str, Any]:
    """A CONNECT_ERROR packet holds a message, and `data` with the code and at most the fields."""
    assert packet.startswith("44"), packet
    error = json.loads(packet[2:])
    assert set(error) == {"message", "data"}, error
    assert error["data"]["code"] == code, error
    assert set(error["data"]) <= {"code", "fields"}, error
    assert error["message"], error
    return dict(error["data"])


async def test_connect_error_has_a_message_and_data(gateway: GatewayProcess) -> None:
    """What the stock client makes `err.message` and `err.data` of."""
    async with RawSocketIO(gateway.url) as raw:
        check_data(await raw.connect({"username": "Alice"}), "invalid_username")


async def test_the_reply_to_connect_has_sid_and_pid(gateway: GatewayProcess) -> None:
    """The reply to CONNECT has the public `sid` and the secret `pid`, which differ."""
    async with RawSocketIO(gateway.url) as raw:
        packet = await raw.connect({"username": fresh_name()})
    reply = json.loads(packet.removeprefix("40"))
    assert isinstance(reply["sid"], str)
    assert isinstance(reply["pid"], str)
    assert reply["sid"] not in reply["pid"]


async def test_the_username_may_be_in_the_url(gateway: GatewayProcess, driver: Driver) -> None:
    """`?username=` serves a client that cannot send auth."""
    name = fresh_name()
    async with SocketIOClient(driver, gateway.url, query={"username": name}) as client:
        assert client.welcome.fields["username"] == name


async def test_auth_wins_over_the_url(gateway: GatewayProcess, driver: Driver) -> None:
    """Where both are given, `auth.username` counts."""
    one, two = fresh_name(), fresh_name()
    async with SocketIOClient(driver, gateway.url, one, query={"username": two}) as client:
        assert client.welcome.fields["username"] == one


@pytest.mark.parametrize("holder", ALL_WIRES)
@pytest.mark.parametrize("claimant", ALL_WIRES)
async def test_a_name_is_held_by_one_connection(join: Join, holder: str, claimant: str) -> None:
    """Over all wires a second login is refused, and the first does not notice."""
    first: Any = await join(holder)
    with pytest.raises(RefusedError) as refusal:
        await join(claimant, first.username)
    check_error(refusal.value.error, "username_taken")
    assert refusal.value.status == (None if claimant.startswith("socketio") else 409)
    assert await first.drain() == []


@pytest.mark.parametrize("end", ["leave", "drop"])
@pytest.mark.parametrize("claimant", ALL_WIRES)
async def test_a_bare_close_frees_the_name_at_once(join: Join, end: str, claimant: str) -> None:
    """Closing a bare socket, in whatever way, ends the session; a witness sees when the gateway has noticed."""
    witness, bare = await join(), await join("bare")
    await succeed(witness, "create-room", room=fresh_name("room"), users=[bare.username])
    await getattr(bare, end)()
    await witness.next_event("user-left")
    assert await join(claimant, bare.username)


@pytest.mark.parametrize("claimant", ALL_WIRES)
async def test_a_name_is_free_as_soon_as_a_bare_client_has_closed(join: Join, claimant: str) -> None:
    """When the close handshake is over, the name is free: nobody has to try twice."""
    for _ in range(5):
        bare = await join("bare")
        await bare.leave()
        assert await join(claimant, bare.username)


async def test_logging_out_frees_the_name(join: Join, wire: str) -> None:
    """`socket.disconnect()`, and close 1000 on the JSON form, end the session: anybody may take the name."""
    witness, client = await join(), await join(wire)
    await make_room(witness, client)
    await client.leave()
    await witness.next_event("user-left")
    again = await join("json", client.username)
    assert (again.welcome.fields["rooms"], again.welcome.fields["recovered"]) == ([], False)


async def test_a_stock_client_can_log_in_again_on_the_same_transport(join: Join) -> None:
    """After `socket.disconnect()`, `socket.connect()` is a new login."""
    client = await join("socketio-websocket")
    await client.leave()
    await client.next_notice("disconnect")
    await client.connect()
    assert (await client.next_event("welcome")).fields["recovered"] is False
    await client.drain()


PLAIN_PATHS = ["", "Alice", "a%20b", "alice/", "alice/x", "a" * 33, "%C3%A9", "a%00", "a%0A", "..%2Fx", "a%2Fb", "%FF"]


@pytest.mark.parametrize("path", PLAIN_PATHS)
async def test_other_paths_are_not_found(gateway: GatewayProcess, path: str) -> None:
    """Any path under /username/ that is not a username is 404 `invalid_username`, before the upgrade."""
    response = await request("GET", f"{gateway.url}/username/{path}", headers=WEBSOCKET_HEADERS)
    assert response.status == 404, response
    check_http_error(response.error, "invalid_username")


def check_http_error(error: dict[str, Any], code: str) -> None:
    check_error(error, code)
    assert set(error) <= {"code", "message", "fields"}


async def test_a_taken_name_is_a_conflict(gateway: GatewayProcess, join: Join) -> None:
    """409 with the error as JSON, for both forms."""
    client = await join()
    for form in ("", "?format=json"):
        response = await request("GET", f"{gateway.url}/username/{client.username}{form}", headers=WEBSOCKET_HEADERS)
        assert response.status == 409
        assert response.headers["content-type"].startswith("application/json")
        check_http_error(response.error, "username_taken")


@pytest.mark.parametrize("form", ["", "?format=json"])
async def test_a_request_that_is_not_a_handshake_is_426(gateway: GatewayProcess, form: str) -> None:
    """A plain GET is refused with the `Upgrade` header that HTTP requires, and takes no name."""
    name = fresh_name()
    response = await request("GET", f"{gateway.url}/username/{name}{form}")
    assert response.status == 426
    check_http_error(response.error, "invalid_payload")
    assert response.headers["upgrade"].lower() == "websocket"
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        other = await request(method, f"{gateway.url}/username/{name}{form}")
        assert (other.status, other.headers["upgrade"]) == (426, "websocket")
        assert (await request(method, f"{gateway.url}/username/No{form}")).status == 404
    async with await open_websocket(f"{websocket_url(gateway.url)}/username/{name}"):
        pass


@pytest.mark.parametrize("query", ["format=xml", "format=", "format=JSON"])
async def test_an_invalid_query_is_400(gateway: GatewayProcess, query: str) -> None:
    """A wrong format is refused before the upgrade."""
    response = await request("GET", f"{gateway.url}/username/{fresh_name()}?{query}", headers=WEBSOCKET_HEADERS)
    assert response.status == 400
    check_http_error(response.error, "invalid_payload")


async def test_other_query_parameters_are_ignored(gateway: GatewayProcess) -> None:
    """A tester may add what it likes to the URL."""
    async with await open_websocket(f"{websocket_url(gateway.url)}/username/{fresh_name()}?v=1&utm=x&username=bob"):
        pass


@pytest.mark.parametrize("wire", ALL_WIRES)
async def test_origins_that_are_not_allowed_are_refused(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """With --allowed-origins a page from elsewhere gets in on no wire; one from there does, and so does no page."""
    own = await start_gateway(allowed_origins="https://chat.example")
    for origin, allowed in (("https://chat.example", True), ("https://evil.example", False), (None, True)):
        if wire.startswith("socketio"):
            options: dict[str, Any] = {"extraHeaders": {"Origin": origin}} if origin else {}
        else:
            options = {"origin": origin}
        if allowed:
            assert await join(wire, to=own, **options)
            continue
        with pytest.raises(RefusedError) as refusal:
            await join(wire, to=own, **options)
        if not wire.startswith("socketio"):
            assert refusal.value.status == 403
            check_http_error(refusal.value.error, "unauthorized")


async def test_a_forwarded_host_is_not_trusted(start_gateway: StartGateway) -> None:
    """`X-Forwarded-Host: evil` does not make the origin `evil` acceptable, on either wire."""
    own = await start_gateway(allowed_origins="https://chat.example")
    headers = {"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    response = await request("GET", f"{own.url}{ENGINE}&transport=polling", headers=headers)
    assert response.status == 403, response
    response = await request("GET", f"{own.url}/username/{fresh_name()}", headers={**WEBSOCKET_HEADERS, **headers})
    assert response.status == 403, response


@pytest.mark.parametrize("wire", ALL_WIRES)
async def test_a_full_gateway_refuses_and_recovers(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """Above --max-connections every login is `limit_reached` (503 on the plain wire), until a place gets free."""
    own = await start_gateway(max_connections=2)
    first, second = await join(to=own), await join("socketio-websocket", to=own)
    await make_room(first, second)
    with pytest.raises(RefusedError) as refusal:
        await join(wire, to=own)
    if wire.startswith("socketio"):
        assert refusal.value.error["message"]
        assert refusal.value.code == "limit_reached"
    else:
        assert refusal.value.status == 503
        check_http_error(refusal.value.error, "limit_reached")
    assert await second.drain() == []
    await second.leave()
    await first.next_event("user-left")
    third: Any = await join(wire, to=own)
    await third.drain()
