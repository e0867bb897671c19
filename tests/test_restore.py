"""A restored backup: a client that comes back with an offset from after the backup is not recovered."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.client import make_room, succeed
from harness.plain import JsonClient
from harness.process import stable_port

if TYPE_CHECKING:
    from harness.client import Join
    from harness.process import GatewayProcess, StartGateway

FILES = ("", "-wal", "-shm")


def copy_store(source: Path, target: Path) -> None:
    for suffix in FILES:
        Path(f"{target}{suffix}").unlink(missing_ok=True)
        if Path(f"{source}{suffix}").exists():
            shutil.copy(f"{source}{suffix}", f"{target}{suffix}")


async def resume(client: JsonClient, own: GatewayProcess, join: Join) -> JsonClient:
    query = {"pid": client.pid, "offset": client.offset}
    return await join("json", client.username, to=own, query=query)


async def contents(client: JsonClient, room: str) -> list[str]:
    return [message["content"] for message in (await succeed(client, "history", room=room))["messages"]]


async def test_a_client_notices_a_restored_backup(start_gateway: StartGateway, join: Join, tmp_path: Path) -> None:
    """Backup, 5 messages, kill -9, restore, 8 more by others: a returning client is not recovered, and reads them."""
    own = await start_gateway(on_disk=True)
    store = tmp_path / "chat.db"
    alice, bob = await join("json", to=own), await join("json", to=own)
    room = await make_room(alice, bob)
    await succeed(alice, "send-msg", room=room, content="kept")
    await bob.next_event("message")
    backup = bob.offset
    copy_store(store, tmp_path / "backup.db")
    for number in range(5):
        await succeed(alice, "send-msg", room=room, content=f"lost {number}")
        await bob.next_event("message")
    assert bob.offset != backup
    await own.kill9()
    copy_store(tmp_path / "backup.db", store)
    await own.restart()
    alice = await resume(alice, own, join)
    written = [f"new {number}" for number in range(8)]
    for content in written:
        await succeed(alice, "send-msg", room=room, content=content)
    back = await resume(bob, own, join)
    assert back.welcome.fields["recovered"] is False
    assert "message" not in [event.name for event in await back.drain()]
    assert await contents(back, room) == ["kept", *written]
    await own.kill9()
    await own.restart()
    again = await resume(back, own, join)
    assert again.welcome.fields["recovered"] is True
    await own.stop()


async def test_the_stock_client_notices_a_restored_backup(
    start_gateway: StartGateway, join: Join, tmp_path: Path
) -> None:
    """It comes back by itself, is not `recovered`, and receives nothing twice and nothing in part."""
    own = await start_gateway(on_disk=True, port=stable_port())
    store = tmp_path / "chat.db"
    options = {"reconnection": True, "reconnectionDelay": 20, "reconnectionDelayMax": 50}
    alice = await join("json", to=own)
    bob = await join("socketio-websocket", to=own, **options)
    room = await make_room(alice, bob)
    copy_store(store, tmp_path / "backup.db")
    for number in range(5):
        await succeed(alice, "send-msg", room=room, content=f"lost {number}")
        await bob.next_event("message")
    await own.kill9()
    await bob.next_notice("disconnect")
    copy_store(tmp_path / "backup.db", store)
    await own.restart()
    notice = await bob.notices.take(lambda notice: notice.name == "connect", "the return")
    assert notice.fields["recovered"] is False
    await own.stop()
