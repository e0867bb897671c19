"""Resuming with the fields of ``welcome``: where the data of CONNECT is not exposed, and with no secret in a URL."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.client import Join, make_room, succeed
from harness.inbox import TIMEOUT
from harness.names import fresh_name
from harness.plain import JsonClient, Wire, dump, websocket_url
from harness.process import GatewayProcess, StartGateway, die_with_parent, stable_port
from harness.raw import RawSocketIO

EXAMPLE = Path(__file__).parent.parent / "examples" / "recover.py"


class FirstFrame(JsonClient):
    """The full form, whose first frame says which session to go on with."""

    def __init__(self, url: str, username: str, **frame: Any) -> None:
        super().__init__(url, username, query={"resume": ""})
        self._frame = dump({"action": "resume", "ref": "first", **frame})

    async def __aenter__(self) -> FirstFrame:
        await Wire.__aenter__(self)
        await self.send(self._frame)
        try:
            self.welcome = await self.next_event("welcome")
            assert await self.replies.take(lambda _: True, "the reply") == {"ok": True, "ref": "first"}
        except BaseException:
            await self.__aexit__()
            raise
        return self


@pytest.mark.parametrize("wire", ["socketio-websocket", "socketio-polling-only", "json"])
async def test_welcome_has_what_a_client_needs_to_resume(start_gateway: StartGateway, join: Join, wire: str) -> None:
    """``sid``, ``pid`` and ``recovery_window``, the same on both wires."""
    own = await start_gateway(recovery_window=77)
    client = await join(wire, to=own)
    assert set(client.welcome.fields) == {"username", "rooms", "recovered", "sid", "pid", "recovery_window"}
    assert client.welcome.fields["recovery_window"] == 77
    assert client.welcome.fields["sid"] != client.welcome.fields["pid"]


async def test_the_python_example_recovers_everything(start_gateway: StartGateway) -> None:
    """python-socketio's stock client, as ``examples/recover.py`` uses it, and a gateway that is killed under it."""
    own = await start_gateway(on_disk=True, port=stable_port())
    name, room = fresh_name(), fresh_name("room")
    example = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        own.url,
        name,
        room,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    assert example.stdout is not None

    async def next_line() -> str:
        async with asyncio.timeout(TIMEOUT):
            return (await example.stdout.readline()).decode().strip()  # type: ignore[union-attr]

    try:
        assert await next_line() == "the rooms are []"
        async with JsonClient(own.url, fresh_name()) as bob:
            other = await make_room(bob)
            await succeed(bob, "add-user", room=other, users=[name])
            await succeed(bob, "send-msg", room=other, content="before")
            assert await next_line() == f"{bob.username}: before"
            await own.kill9()
            await own.restart()
            async with JsonClient(own.url, bob.username, query={"pid": bob.pid, "offset": bob.offset}) as again:
                for number in range(20):
                    await succeed(again, "send-msg", room=other, content=f"{number}")
                for number in range(20):
                    assert await next_line() == f"{bob.username}: {number}"
    finally:
        example.kill()
        await example.wait()


async def test_a_first_frame_resumes(join: Join, gateway: GatewayProcess) -> None:
    """As `pid` and `offset` in the URL do; without them it begins a new session."""
    bob, name = await join(), fresh_name()
    async with FirstFrame(gateway.url, name) as client:
        room = await make_room(bob)
        await succeed(bob, "add-user", room=room, users=[name])
        await client.next_event("room-joined")
        await client.drop()
        await bob.next_event("presence")
        await succeed(bob, "send-msg", room=room, content="missed")
    async with FirstFrame(gateway.url, name, pid=client.pid, offset=client.offset) as back:
        assert back.welcome.fields["recovered"] is True
        assert (await back.next_event("message")).fields["content"] == "missed"
        await succeed(back, "send-msg", room=room, content="here")
        assert (await bob.next_event("message")).fields["content"] == "here"
        await back.leave()
    assert (await bob.next_event("user-left")).fields["username"] == name


async def test_a_first_frame_wins_over_a_connection_that_seems_alive(join: Join, gateway: GatewayProcess) -> None:
    client = await join()
    async with FirstFrame(gateway.url, client.username, pid=client.pid, offset=client.offset) as back:
        assert await client.wait_closed() == 4001
        assert back.welcome.fields["recovered"] is True


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        ("nonsense", "invalid_payload", None),
        ("[]", "invalid_payload", None),
        ('{"action":"list-rooms"}', "invalid_payload", None),
        ('{"action":"resume","pid":1}', "invalid_payload", "pid"),
        ('{"action":"resume","pid":"x","offset":{}}', "invalid_payload", "offset"),
    ],
)
async def test_an_invalid_first_frame_closes_the_connection(
    gateway: GatewayProcess, frame: str, code: str, field: str | None
) -> None:
    """It gets a reply, and the connection is closed; frames after it are ignored, and the name is free."""
    name = fresh_name()
    async with Wire(f"{websocket_url(gateway.url)}/username/{name}?format=json&resume", name) as wire:
        await wire.send(frame)
        await wire.send('{"action":"create-room","room":"x"}')
        reply = json.loads(await wire.next_frame())
        assert (reply["ok"], reply["error"]["code"]) == (False, code)
        assert field is None or set(reply["error"]["fields"]) == {field}
        assert await wire.wait_closed() == 1008
        assert len(wire.frames.log) == 1
    async with JsonClient(gateway.url, name) as client:
        assert client.welcome.fields["rooms"] == []


async def test_a_first_frame_for_a_taken_name_is_refused(join: Join, gateway: GatewayProcess) -> None:
    """Nobody's session is harmed by it."""
    client = await join()
    url = f"{websocket_url(gateway.url)}/username/{client.username}?format=json&resume"
    async with Wire(url, "thief") as wire:
        await wire.send('{"action":"resume","pid":"guessed","ref":[1]}')
        reply = json.loads(await wire.next_frame())
        assert (reply["error"]["code"], reply["ref"]) == ("username_taken", [1])
        assert await wire.wait_closed() == 1008
    assert await client.drain() == []


async def test_a_client_that_sends_no_first_frame_is_closed(gateway: GatewayProcess) -> None:
    """After five seconds; until then it holds no name."""
    name = fresh_name()
    async with Wire(f"{websocket_url(gateway.url)}/username/{name}?format=json&resume", name) as wire:
        since = asyncio.get_running_loop().time()
        async with JsonClient(gateway.url, name):
            pass
        assert await wire.wait_closed() == 1008
        assert 4.5 < asyncio.get_running_loop().time() - since < 10
        assert json.loads(str(wire.frames.log[0]))["error"]["code"] == "invalid_payload"


async def test_a_first_frame_needs_the_full_form(gateway: GatewayProcess) -> None:
    with pytest.raises(Exception, match="invalid_payload"):
        await Wire(f"{websocket_url(gateway.url)}/username/{fresh_name()}?resume", "bare").__aenter__()


async def test_frames_read_together_with_the_first_frame_are_handled(gateway: GatewayProcess) -> None:
    """Frames right after the first one are handled in its session, in order."""
    name, room = fresh_name(), fresh_name("room")
    async with FirstFrame(gateway.url, name) as client:
        replies = await client.burst([("create-room", {"room": room}), ("list-rooms", {})])
        assert [reply["ok"] for reply in replies] == [True, True]
    async with Wire(f"{websocket_url(gateway.url)}/username/{name}?format=json&resume", name) as wire:
        frame = dump({"action": "resume", "pid": client.pid, "offset": client.offset})
        await asyncio.gather(wire.send(frame), wire.send('{"action":"list-rooms","ref":1}'))
        names = []
        while len(names) < 3:
            reply = json.loads(await wire.next_frame())
            names.append((reply["event"], reply.get("ref")))
        assert names == [("welcome", None), ("reply", None), ("reply", 1)]


async def test_socketio_resumes_with_the_pid_and_offset_of_welcome(join: Join, gateway: GatewayProcess) -> None:
    """`pid` of welcome is that of CONNECT; with it, and with the last argument of an event, nothing is missed."""
    bob, name = await join(), fresh_name()
    async with RawSocketIO(gateway.url) as raw:
        connected = json.loads((await raw.connect({"username": name}))[2:])
        _, fields, offset = await next_event(raw, "welcome")
        assert (fields["sid"], fields["pid"]) == (connected["sid"], connected["pid"])
        room = await make_room(bob)
        await succeed(bob, "add-user", room=room, users=[name])
        _, _, offset = await next_event(raw, "room-joined")
    await bob.next_event("presence")
    await succeed(bob, "send-msg", room=room, content="missed")
    async with RawSocketIO(gateway.url) as raw:
        again = json.loads((await raw.connect({"username": name, "pid": fields["pid"], "offset": offset}))[2:])
        assert again["pid"] == fields["pid"]
        assert (await next_event(raw, "welcome"))[1]["recovered"] is True
        assert (await next_event(raw, "message"))[1]["content"] == "missed"


async def next_event(raw: RawSocketIO, name: str) -> list[Any]:
    """Name, fields and offset of the next stored event of that name."""
    frame = await raw.frames.take(lambda frame: str(frame).startswith(f'42["{name}"'), name)
    return list(json.loads(str(frame)[2:]))
