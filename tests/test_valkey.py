"""The harness's Valkey server: what it has replied to is there when it is started again, and it ends with the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from redis.asyncio import Redis

from harness.valkey import StartValkey, ValkeyProxy, ValkeyServer
from harness.waiting import until

PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from harness.valkey import ValkeyServer
async def main():
    server = ValkeyServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_server_that_was_killed_has_all_that_it_replied_to(start_valkey: StartValkey) -> None:
    server = await start_valkey()
    for number in range(100):
        await server.command("SET", f"key{number}", number)
    await server.kill9()
    assert not server.running
    await server.restart()
    assert await server.command("DBSIZE") == 100
    await server.flush()
    await server.stop()
    await server.restart()
    assert await server.command("DBSIZE") == 0


async def test_settings_are_directives(start_valkey: StartValkey) -> None:
    server = await start_valkey(appendfsync="everysec")
    assert await server.command("CONFIG", "GET", "appendfsync") == {b"appendfsync": b"everysec"}


async def test_a_subscription_is_told_from_other_connections(valkey: ValkeyServer) -> None:
    async with ValkeyProxy(valkey.url) as proxy, Redis.from_url(proxy.url) as client, client.pubsub() as subscription:
        await subscription.subscribe("news")
        await client.ping()
        await until(lambda: len(proxy.subscribing()) == 1)
        assert len(proxy.commanding()) == 1
        assert await valkey.kill_subscribers() == 1
        await until(lambda: proxy.subscribing() == [])


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """However that ends: no process is left."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.run(
        [sys.executable, "-c", PARENT, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    pid = int(parent.stdout)
    assert not Path(f"/proc/{pid}/exe").exists() or is_ending(pid)


def is_ending(pid: int) -> bool:
    """Whether a process is a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
