"""A Socket.IO client in Python that comes back to its session, and misses nothing.

    python examples/recover.py http://localhost:8080 alice tea

python-socketio's client does not expose the reply to CONNECT: the event ``welcome`` has the ``pid`` of the session.
``auth`` may be a function: it is asked each time the client connects, also when it comes back by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import socketio

sio = socketio.AsyncClient(reconnection_delay=0.2, reconnection_delay_max=1)
session: dict[str, str] = {}
"""``username``, and once they are known the ``pid`` and the ``offset`` of the last event."""


@sio.on("*")
async def on_event(event: str, *arguments: Any) -> None:
    """Each event has its fields, and a stored one its offset as the last argument."""
    fields, *offset = arguments
    if event == "welcome":
        session["pid"] = fields["pid"]
        if not fields["recovered"]:
            print("the rooms are", json.dumps(fields["rooms"]), flush=True)
    elif event == "message":
        print(f"{fields['from']}: {fields['content']}", flush=True)
    if offset:
        session["offset"] = offset[0]


async def main(url: str, username: str, room: str) -> None:
    session["username"] = username
    await sio.connect(url, auth=lambda: dict(session), transports=["websocket"], retry=True)
    await sio.call("create-room", {"room": room})
    await sio.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
