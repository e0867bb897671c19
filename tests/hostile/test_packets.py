"""Malformed packets, in every state: the connection closes within a second, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.http import request
from harness.names import fresh_name
from harness.raw import open_polling
from hostile.attack import Attack, PlainAttacker, SocketIOAttacker, masked, message
from hostile.conftest import StartAttack
from hostile.scale import SCALE, STOCK
from hostile.target import MARK, NAMESPACES

MALFORMED: list[str | bytes] = [
    *("", "x", "7", "8", "9", "b!", "é", "4", "4x", "4-1", "47", "48", "49"),
    *("44", '44{"message":"x"}', "40{", "40[", "41[]", '41{"a":1}'),
    *("42", "42[]", "42{}", '42"x"', "42[1]", "42[null]", "42[[]]", "42[", '42["x"', '42["x"]]', '42["x",]'),
    *('42["x",NaN]', "42" + "[" * 100_000, "42" + "1" * 101 + '["x"]', "42/", "42/other"),
    *("43", "43[]", "431", "431{}", '431"x"', "43-1[]"),
    *("45-[]", "451[]", '45x-["x"]', '45-1-["x"]', '4511-["x"]', '459999999999-["x"]', '451-{"x":1}', "451-[]"),
    *("46", "461-[]", "461-1{}", "4611-1[]", b"\0", b""),
]
"""Malformed packets, and packets that no client may send, whatever came before."""

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
"""Bytes that are not WebSocket frames."""


Attempt = tuple[object, Callable[[], Awaitable[None]]]

IN_TIME = 1.0
"""Seconds within which a violation closes the connection."""


async def close_in_time(attack: Attack, before: bytes, bad: bytes, *, logged_in: bool) -> None:
    async with SocketIOAttacker(attack.gateway.url) as attacker:
        await (attacker.log_in() if logged_in else attacker.open())
        await attacker.send(before + bad)
        await attacker.closed(IN_TIME)


BINARY = message('451-["x",{"_placeholder":true,"num":0}]')
STATES = {"before connect": (False, b""), "connected": (True, b""), "inside a binary packet": (True, BINARY)}


@pytest.mark.parametrize("state", STATES)
async def test_malformed_packets(start_attack: StartAttack, state: str) -> None:
    """Each of the list closes its connection, in every state."""
    attack = await start_attack()
    logged_in, before = STATES[state]
    attempts: list[Attempt] = [
        (packet, partial(close_in_time, attack, before, message(packet), logged_in=logged_in))
        for packet in MALFORMED
        if not before or isinstance(packet, str)
    ]
    await attack.tally(attempts)


async def fail_to_upgrade(attack: Attack, before: bytes, bad: bytes) -> None:
    url = await open_polling(attack.gateway.url)
    async with SocketIOAttacker(attack.gateway.url) as attacker:
        await attacker.shake_hands(url.removeprefix(attack.gateway.url).replace("polling", "websocket"))
        await attacker.send(before + bad)
        await attacker.closed(IN_TIME)
    response = await request("POST", url, data="1")
    assert (response.status, response.text.lower()) == (200, "ok")


async def test_malformed_packets_during_an_upgrade(start_attack: StartAttack) -> None:
    """They end the upgrade, before its probe and after it; the session goes on with long-polling."""
    attack = await start_attack()
    attempts: list[Attempt] = [
        ((packet, probe), partial(fail_to_upgrade, attack, probe, message(packet)))
        for packet, probe in product((*MALFORMED, "3", "2", "42[]"), (b"", message("2probe")))
    ]
    await attack.tally(attempts)


@pytest.fixture
async def attack(start_attack: StartAttack) -> Attack:
    """One attack for all that hypothesis generates; nobody comes back to what was lost in it."""
    attack = await start_attack(recovery_window=0.2)
    for _ in range(200):
        for kind in (SocketIOAttacker, PlainAttacker):
            async with kind(attack.gateway.url) as attacker:
                await attacker.log_in()
    attack.settle()
    return attack


many = settings(
    max_examples=SCALE.packets,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate] if STOCK else [Phase.generate, Phase.shrink],
)
packet = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.builds("4{}{}".format, st.sampled_from("0123456789"), st.text(max_size=30)),
    st.builds("42{}{}".format, st.integers(), st.sampled_from(['["x"]', "[]", '["x",', '["disconnect"]', "{}"])),
    st.builds("4{}{}-{}".format, st.sampled_from("56"), st.integers(-1, 12), st.sampled_from(['["x"]', "[]", "{}"])),
    st.builds("4{}/{},{}".format, st.sampled_from("01234"), st.text(max_size=8), st.sampled_from(["", "{}", '["x"]'])),
)
any_frame = st.builds(
    lambda opcode, payload, head: masked(opcode, payload, head=head),
    st.integers(0, 15),
    st.binary(max_size=130),
    st.sampled_from([0x80] * 4 + [0, 0xC0, 0x90]),
)
"""A whole frame of any kind."""

nonsense = st.lists(packet.map(message) | any_frame, min_size=1, max_size=3).map(b"".join)


CLOSE_FRAME = b"\x88\x02\x03\xe8"
"""The close frame after an Engine.IO CLOSE; the gateway waits for the client's before it closes."""


@many
@given(state=st.sampled_from([*STATES]), sent=nonsense)
async def test_generated_packets(attack: Attack, state: str, sent: bytes) -> None:
    """After any packets, an action or a log-in gets its reply within a second, or the connection is closed."""
    logged_in, before = STATES[state]
    # The log-in is for those whose packet was a DISCONNECT.
    question = message('42987654["list-rooms",{}]') + message(f'40{{"username":"{fresh_name()}"}}')
    async with SocketIOAttacker(attack.gateway.url) as attacker:
        await (attacker.log_in() if logged_in else attacker.open())
        await attacker.send(before + sent)
        await attacker.replies_or_closes(question, (b"43987654[", b"40{", b"44{", CLOSE_FRAME), IN_TIME)


@many
@given(probe=st.sampled_from([b"", message("2probe")]), sent=nonsense)
async def test_generated_packets_during_an_upgrade(attack: Attack, probe: bytes, sent: bytes) -> None:
    """After any packets and then a malformed one, the WebSocket of an upgrade is closed within a second."""
    url = await open_polling(attack.gateway.url)
    async with SocketIOAttacker(attack.gateway.url) as attacker:
        await attacker.shake_hands(url.removeprefix(attack.gateway.url).replace("polling", "websocket"))
        await attacker.send(probe + sent + message("!"))
        await attacker.closed(IN_TIME)
    await request("POST", url, data="1")


@many
@given(sent=st.lists(st.text(max_size=60).map(message) | any_frame, min_size=1, max_size=3).map(b"".join))
async def test_generated_frames_on_the_plain_wire(attack: Attack, sent: bytes) -> None:
    """After any frames, an action gets its reply within a second, or the connection is closed."""
    async with PlainAttacker(attack.gateway.url) as attacker:
        await attacker.log_in()
        await attacker.send(sent)
        await attacker.replies_or_closes(message('{"action":"list-rooms","ref":987654}'), (b"987654",), IN_TIME)


# --- reserved names


def reserved_events(namespace: str) -> list[list[str | bytes]]:
    """Each reserved name as a client can send it: with and without an id, with and without an attachment."""
    where = "" if namespace == "/" else f"{namespace},"
    attached = json.dumps([MARK, {"_placeholder": True, "num": 0}])[1:]
    return [
        packets
        for name, number in product(RESERVED, ("", "7"))
        for packets in (
            [f'42{where}{number}["{name}","{MARK}"]'],
            [f'42{where}{number}["{name}",{{"username":"{MARK}"}}]'],
            [f'450-{where}{number}["{name}","{MARK}"]'],
            [f'451-{where}{number}["{name}",{attached}', b"x"],
        )
    ]


async def send_reserved(attack: Attack, namespaces: list[str], packets: list[str | bytes], *, polling: bool) -> None:
    """Log in, connect to the namespaces, and send the packets."""
    logins = [f'40{{"username":"{fresh_name()}"}}', *(f"40{namespace}," for namespace in namespaces)]
    if not polling:
        async with SocketIOAttacker(attack.gateway.url) as attacker:
            await attacker.log_in()
            await attacker.send(b"".join(map(message, (*logins[1:], *packets))))
            await attacker.closed(IN_TIME)
        return
    url = await open_polling(attack.gateway.url)
    for login in logins:
        assert (await request("POST", url, data=login)).status == 200
    body = "\x1e".join(packet if isinstance(packet, str) else "beA==" for packet in packets)
    assert (await request("POST", url, data=body)).status == 400


@pytest.mark.parametrize("kind", ["gateway", "ours"])
@pytest.mark.parametrize("polling", [False, True], ids=["websocket", "polling"])
async def test_reserved_events(start_attack: StartAttack, kind: str, polling: bool) -> None:
    """No client can emit the events of the server: in every namespace the connection closes, and no handler has run."""
    attack = await start_attack(kind=kind)
    others = NAMESPACES[1:] if kind == "ours" else []
    attempts: list[Attempt] = [
        ((namespace, packets), partial(send_reserved, attack, others, packets, polling=polling))
        for namespace in (*NAMESPACES, "/unknown")
        for packets in reserved_events(namespace)
    ]
    try:
        await attack.tally(attempts)
    finally:
        fooled = (await attack.gateway.counts()).get("fooled", 0)
        attack.note("handlers run", fooled)
    assert not fooled


# --- attachments


async def test_placeholders(start_attack: StartAttack) -> None:
    """An attachment is named by its number, and by nothing else."""
    attack = await start_attack()
    attempts: list[Attempt] = []
    for wrong in PLACEHOLDERS:
        packet = message(f"451-{json.dumps(['x', {'_placeholder': True, **wrong}])}") + masked(2, b"x")
        attempts.append((wrong, partial(close_in_time, attack, b"", packet, logged_in=True)))
    await attack.tally(attempts)


async def test_attachments_that_never_come(start_attack: StartAttack) -> None:
    """Ten seconds after the packet that announced them, the connection closes."""
    attack = await start_attack(memory=4)
    announced = message('4510-["x",{"_placeholder":true,"num":0}]')
    started = asyncio.get_running_loop().time()

    async def wait(sent: bytes) -> None:
        async with SocketIOAttacker(attack.gateway.url) as attacker:
            await attacker.log_in()
            await attacker.send(sent)
            await attacker.closed(12)

    await attack.watch(
        attack.tally(
            [(count, partial(wait, announced + masked(2, b"x" * 50_000) * (count % 3))) for count in range(16)]
        )
    )
    seconds = asyncio.get_running_loop().time() - started
    attack.note("closed after", f"{seconds:.1f} s")
    assert seconds > 9


async def test_attachments_that_are_too_large_together(start_attack: StartAttack) -> None:
    """More than 1 MB in one packet closes the connection."""
    attack = await start_attack(memory=8)

    async def overdo() -> None:
        announced = message('4510-["x",{"_placeholder":true,"num":0}]')
        await close_in_time(attack, announced + masked(2, b"x" * 125_000) * 8, masked(2, b"x"), logged_in=True)

    await overdo()
    attack.settle()
    for _ in range(5):
        await attack.watch(overdo())


# --- frames


@pytest.mark.parametrize("kind", [SocketIOAttacker, PlainAttacker])
async def test_frames_that_break_rfc_6455(
    start_attack: StartAttack, kind: type[SocketIOAttacker] | type[PlainAttacker]
) -> None:
    """Both wires: closed within a second, whatever the violation."""
    attack = await start_attack()

    async def violate(violation: bytes) -> None:
        async with kind(attack.gateway.url) as attacker:
            await attacker.log_in()
            await attacker.send(violation)
            await attacker.closed(IN_TIME)

    await attack.tally([(violation, partial(violate, violation)) for violation in VIOLATIONS])
