"""Well-behaved people, in a process of their own: pairs, one on each wire, send each other acked messages.

    python bystander.py ws://host:port people

Prints "ready" to stdout. For each "?" on stdin it prints a JSON list: how many seconds each message since the last "!"
took to be acked and received; at least 200 of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

RATE = 200
"""Messages a second of all together."""

AT_LEAST = 200
"""Messages, so that the 99th percentile is not the slowest of all."""

TIMEOUT = 30.0


class Person:
    """One of a pair."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def wait(self, *starts: str) -> str:
        """The next frame with that prefix; others are skipped, and pings get a pong."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                frame = str(await self.socket.recv())
                if frame == "2":
                    await self.socket.send("3")
                elif frame.startswith(starts):
                    return frame


class Pair:
    def __init__(self, number: int, alice: Person, bob: Person) -> None:
        self.number = number
        self.alice = alice
        self.bob = bob
        self.room = f"calm{number}"

    async def meet(self) -> None:
        await self.bob.wait("0")
        await self.bob.socket.send(f'40{{"username":"calmbob{self.number}"}}')
        await self.bob.wait('42["welcome"')
        room = {"action": "create-room", "room": self.room, "users": [f"calmbob{self.number}"]}
        await self.alice.socket.send(json.dumps(room))
        await self.alice.wait('{"event":"reply","ok":true')

    async def send_from_alice(self, content: str) -> None:
        await self.alice.socket.send(json.dumps({"action": "send-msg", "room": self.room, "content": content}))
        await self.alice.wait('{"event":"reply","ok":true')
        assert f'"content":"{content}"' in await self.bob.wait('42["message"')

    async def send_from_bob(self, content: str) -> None:
        payload: list[Any] = ["send-msg", {"room": self.room, "content": content}]
        await self.bob.socket.send(f"421{json.dumps(payload)}")
        assert '"ok":true' in await self.bob.wait("431[")
        assert f'"content":"{content}"' in await self.alice.wait('{"event":"message"')


async def talk(pair: Pair, pause: float, times: list[float]) -> None:
    await asyncio.sleep(pause * pair.number / 50)  # not all at once
    for number in itertools.count():
        for send in (pair.send_from_alice, pair.send_from_bob):
            start = time.perf_counter()
            await send(str(number))
            times.append(time.perf_counter() - start)
        await asyncio.sleep(pause)  # at their rate


async def report(times: list[float]) -> None:
    """Reply to the questions on stdin."""
    asked: asyncio.Queue[bytes] = asyncio.Queue()
    stdin = sys.stdin.fileno()
    asyncio.get_running_loop().add_reader(stdin, lambda: asked.put_nowait(os.read(stdin, 1)))
    while True:
        match await asked.get():
            case b"":
                return
            case b"!":
                times.clear()
                continue
        while len(times) < AT_LEAST:  # noqa: ASYNC110 (many others fill it)
            await asyncio.sleep(0.01)  # there is no event to wait for
        print(json.dumps(times), flush=True)  # noqa: T201 (to the test)


async def open_pair(url: str, number: int) -> Pair:
    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}
    alice = await connect(f"{url}/username/calmalice{number}?format=json", **options)
    bob = await connect(f"{url}/socket.io/?EIO=4&transport=websocket", **options)
    pair = Pair(number, Person(alice), Person(bob))
    await pair.meet()
    return pair


async def main(url: str, people: int) -> None:
    pairs = [await open_pair(url, number) for number in range(people // 2)]
    print("ready", flush=True)  # noqa: T201
    times: list[float] = []
    talking = [asyncio.create_task(talk(pair, people / RATE, times)) for pair in pairs]
    reporting = asyncio.create_task(report(times))
    done, _ = await asyncio.wait([reporting, *talking], return_when=asyncio.FIRST_COMPLETED)
    done.pop().result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
