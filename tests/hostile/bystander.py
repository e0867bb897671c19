"""A well-behaved pair, in a process of its own: one on each wire, they send each other acked messages.

    python bystander.py ws://host:port

Says "ready" on stdout; at the end of stdin prints the seconds that each message took to be acked and heard, as a
JSON list.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from websockets.sync.client import ClientConnection, connect

PAUSE = 0.005
AT_LEAST = 200
"""Messages, so that the 99th percentile is not the slowest of all."""

PATIENCE = 30.0


class Person:
    """One of the two."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def wait(self, *starts: str) -> str:
        """The next frame that starts so; others are skipped, pings answered."""
        while True:
            frame = str(self.socket.recv(PATIENCE))
            if frame == "2":
                self.socket.send("3")
            elif frame.startswith(starts):
                return frame


def alice_says(alice: Person, bob: Person, content: str) -> None:
    alice.socket.send(json.dumps({"action": "send-msg", "room": "calm", "content": content}))
    alice.wait('{"event":"reply","ok":true')
    assert f'"content":"{content}"' in bob.wait('42["message"')


def bob_says(alice: Person, bob: Person, content: str) -> None:
    payload: list[Any] = ["send-msg", {"room": "calm", "content": content}]
    bob.socket.send(f"421{json.dumps(payload)}")
    assert '"ok":true' in bob.wait("431[")
    assert f'"content":"{content}"' in alice.wait('{"event":"message"')


def main(url: str) -> None:
    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}
    with (
        connect(f"{url}/username/calmalice?format=json", **options) as plain,
        connect(f"{url}/socket.io/?EIO=4&transport=websocket", **options) as stock,
    ):
        talk(Person(plain), Person(stock))


def talk(alice: Person, bob: Person) -> None:
    bob.wait("0")
    bob.socket.send('40{"username":"calmbob"}')
    bob.wait('42["welcome"')
    alice.socket.send('{"action":"create-room","room":"calm","users":["calmbob"]}')
    alice.wait('{"event":"reply","ok":true')
    print("ready", flush=True)  # noqa: T201 (to the test)
    times: list[float] = []
    while len(times) < AT_LEAST or not select.select([sys.stdin], [], [], PAUSE)[0]:
        for say in (alice_says, bob_says):
            start = time.perf_counter()
            say(alice, bob, str(len(times)))
            times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
