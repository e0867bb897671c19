"""Packets that are none, in every state: the connection closes within a second, and nobody else notices."""

from __future__ import annotations

import asyncio
import json

import pytest

from harness.http import request
from hostile.conftest import LayOn
from hostile.siege import PlainAttacker, Siege, SocketIOAttacker, masked, message, open_polling

MALFORMED: list[str | bytes] = [
    *("", "x", "7", "8", "9", "b", "é", "4", "4x", "4-1", "47", "48", "49"),
    *("44", '44{"message":"x"}', "40{", "40[", "41[]", '41{"a":1}'),
    *("42", "42[]", "42{}", '42"x"', "42[1]", "42[null]", "42[[]]", "42[", '42["x"', '42["x"]]', '42["x",]'),
    *('42["x",NaN]', "42" + "[" * 100_000, "42" + "1" * 101 + '["x"]', "42/", "42/other"),
    *("43", "43[]", "431", "431{}", '431"x"', "43-1[]"),
    *("45-[]", "451[]", '45x-["x"]', '45-1-["x"]', '4511-["x"]', '459999999999-["x"]', '451-{"x":1}', "451-[]"),
    *("46", "461-[]", "461-1{}", "4611-1[]", b"\0", b""),
]
"""What is no packet, or none that a client may send, whatever came before."""

RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
PLACEHOLDERS = [{}, {"num": 1}, {"num": -1}, {"num": "0"}, {"num": True}, {"num": 0.0}, {"num": None}, {"num": [0]}]

MASKED_X = masked(1, b"x")
VIOLATIONS = [
    masked(1, b"x", head=0xC0),
    masked(1, b"x", head=0xA0),
    masked(1, b"x", head=0x90),
    *(masked(opcode) for opcode in (3, 7, 0xB, 0xF)),
    b"\x81\x01x",
    masked(0, b"x"),
    masked(1, b"x", head=0) + MASKED_X,
    masked(9, b"x", head=0),
    masked(9, b"x" * 126),
    masked(1, b"\xff"),
    masked(8, b"x"),
    masked(8, (1005).to_bytes(2, "big")),
    masked(8, b"\x03\xe8\xff"),
    b"\x81\xff" + (2**63).to_bytes(8, "big"),
    b"\x81\xff" + (200_000).to_bytes(8, "big"),
    b"\x82\xff" + (2**64 - 1).to_bytes(8, "big"),
]
"""Bytes that are no WebSocket frames."""


async def close_within_a_second(siege: Siege, before: list[bytes], bad: bytes, *, logged_in: bool) -> None:
    async with SocketIOAttacker(siege.gateway.url) as attacker:
        await (attacker.log_in() if logged_in else attacker.open())
        for data in before:
            await attacker.send(data)
        await attacker.send(bad)
        try:
            await attacker.closed(1)
        except AssertionError as error:
            raise AssertionError(f"{bad[:60]!r}: {error}") from None


BINARY = [message('451-["x",{"_placeholder":true,"num":0}]')]
STATES = {"before connect": (False, []), "connected": (True, []), "inside a binary packet": (True, BINARY)}


@pytest.mark.parametrize("state", STATES)
async def test_malformed_packets(siege: LayOn, state: str) -> None:
    """Each of the list closes its connection, in every state."""
    lasting = await siege(memory=12)
    logged_in, before = STATES[state]
    for packet in MALFORMED:
        if not before or isinstance(packet, str):
            await close_within_a_second(lasting, before, message(packet), logged_in=logged_in)


async def test_malformed_packets_during_an_upgrade(siege: LayOn) -> None:
    """They end the upgrade, before its probe and behind it; the session goes on with long-polling."""
    lasting = await siege(memory=12)
    for packet in (*MALFORMED, "3", "2", "42[]"):
        for probe in (b"", message("2probe")):
            url = await open_polling(lasting.gateway.url)
            async with SocketIOAttacker(lasting.gateway.url) as attacker:
                path = url.removeprefix(lasting.gateway.url).replace("polling", "websocket")
                await attacker.shake_hands(path)
                await attacker.send(probe + message(packet))
                await attacker.read_until(b"\x88\x02\x03\xea")
            answer = await request("POST", url, data="1")
            assert (answer.status, answer.text) == (200, "ok"), packet


@pytest.mark.parametrize("namespace", ["", "/,", "/admin,"])
async def test_reserved_events(siege: LayOn, namespace: str) -> None:
    """No client calls what only the server may: the connection closes, and no handler has run."""
    lasting = await siege(memory=12)
    for name in RESERVED:
        event = json.dumps([name, {}])
        for packets in ([f"42{namespace}{event}"], [f"42{namespace}7{event}"], [f"450-{namespace}{event}"]):
            await close_within_a_second(lasting, [], b"".join(map(message, packets)), logged_in=True)
        await close_within_a_second(lasting, [], message(f"451-{namespace}{event}") + masked(2, b"x"), logged_in=True)


async def test_placeholders(siege: LayOn) -> None:
    """An attachment is named by its number, and by nothing else."""
    lasting = await siege(memory=12)
    for wrong in PLACEHOLDERS:
        event = json.dumps(["x", {"_placeholder": True, **wrong}])
        await close_within_a_second(lasting, [], message(f"451-{event}") + masked(2, b"x"), logged_in=True)


@pytest.mark.parametrize("kind", [SocketIOAttacker, PlainAttacker])
async def test_frames_that_break_rfc_6455(siege: LayOn, kind: type[SocketIOAttacker] | type[PlainAttacker]) -> None:
    """Both wires: closed within a second, whatever the violation."""
    lasting = await siege(memory=12)
    for violation in VIOLATIONS:
        async with kind(lasting.gateway.url) as attacker:
            await attacker.log_in()
            await attacker.send(violation)
            await attacker.closed(1)


async def test_attachments_that_never_come(siege: LayOn) -> None:
    """Ten seconds after the packet that announced them, the connection closes."""
    lasting = await siege(memory=4)

    async def wait(sent: bytes) -> None:
        async with SocketIOAttacker(lasting.gateway.url) as attacker:
            await attacker.log_in()
            await attacker.send(sent)
            await attacker.closed(12)

    started = asyncio.get_running_loop().time()
    announced = message('4510-["x",{"_placeholder":true,"num":0}]')
    await asyncio.gather(*(wait(announced + masked(2, b"x" * 50_000) * (count % 3)) for count in range(20)))
    assert asyncio.get_running_loop().time() - started > 9


async def test_attachments_that_are_too_large_together(siege: LayOn) -> None:
    """More than 1 MB in one packet closes the connection."""
    lasting = await siege(memory=12)
    announced = message('4510-["x",{"_placeholder":true,"num":0}]')
    for _ in range(5):
        await close_within_a_second(
            lasting, [announced, *[masked(2, b"x" * 125_000)] * 8], masked(2, b"x"), logged_in=True
        )
