"""The store behind Sentinels: the primary dies, and its replica takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

# There is no public name for where the binary is.
from engines.conftest import POLICY, Recorder
from gateway.engines.base import Durability
from gateway.engines.valkey.engine import ValkeyEngine
from gateway.errors import GatewayError, StoreError
from gateway.observe import NullObserver
from gateway.rules.sessions import Claim, ResumePoint
from gateway.rules.store import Store
from harness.process import die_with_parent, stable_port
from harness.valkey import StartValkey, ValkeyServer, server_program
from harness.waiting import poll_until

pytestmark = pytest.mark.process


@asynccontextmanager
async def sentinel(folder: Path, primary: ValkeyServer) -> AsyncIterator[int]:
    """The port of one that fails over after a second."""
    port = stable_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
    )
    process = await asyncio.create_subprocess_exec(
        server_program(), config, "--sentinel", stdout=asyncio.subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    try:
        yield port
    finally:
        process.kill()
        await process.wait()


async def knows_the_replica(port: int) -> bool:
    async with Redis(port=port) as client:
        try:
            return bool(await client.execute_command("SENTINEL", "REPLICAS", "main"))  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return False


async def is_in_step(primary: ValkeyServer) -> bool:
    """Whether a replica has received everything."""
    info = await primary.command("INFO", "replication")
    return bool(info["connected_slaves"] and info["slave0"]["offset"] == info["master_repl_offset"])


async def test_a_replica_takes_over(start_valkey: StartValkey, tmp_path: Path) -> None:
    """What it had received is there, offsets go on meaning what they meant, and members receive what is sent next."""
    primary = await start_valkey()
    replica = await start_valkey(replicaof=f"127.0.0.1 {primary.port}")
    async with sentinel(tmp_path, primary) as port:
        url = f"redis+sentinel://127.0.0.1:{stable_port()},127.0.0.1:{port}/main?prefix=x"  # the first one is gone
        await poll_until(lambda: knows_the_replica(port))
        recorder = Recorder()
        store = Store(ValkeyEngine(url, POLICY, NullObserver()), POLICY)
        await store.open(recorder)
        assert store.durability() is Durability.DISK
        alice = await store.attach_session(Claim("alice", "c-alice"))
        await store.attach_session(Claim("bob", "c-bob"))
        await store.create_room("alice", "tea", ("bob",))
        await store.append_message("bob", "tea", "seen", None)
        offset = recorder.publications[-1].offset
        await store.append_message("bob", "tea", "missed", None)
        await poll_until(lambda: is_in_step(primary))
        await primary.kill9()

        async def sends() -> bool:
            try:
                await store.append_message("bob", "tea", "after", "after")
            except GatewayError:
                return False
            return True

        await poll_until(sends)
        assert await replica.command("ROLE") != b"slave"
        await store.attach_session(Claim("alice", "c-again", ResumePoint(alice.pid, offset)))
        attachment = recorder.last_attachment
        assert attachment.recovered
        assert [b"missed" in event.body for event in attachment.missed] == [True, False]
        assert [b"after" in event.body for event in attachment.missed] == [False, True]
        await store.close(1)


async def test_a_replica_is_refused(start_valkey: StartValkey) -> None:
    """It would take no writes, and what is published there reaches nobody."""
    primary = await start_valkey()
    replica = await start_valkey(replicaof=f"127.0.0.1 {primary.port}")
    with pytest.raises(StoreError, match="replica"):
        await Store(ValkeyEngine(replica.store("x"), POLICY, NullObserver()), POLICY).open(Recorder())


async def test_sentinels_that_do_not_know_the_service_are_reported() -> None:
    url = f"redis+sentinel://127.0.0.1:{stable_port()}/main"
    with pytest.raises(StoreError, match="no Sentinel says"):
        await Store(ValkeyEngine(url, POLICY, NullObserver()), POLICY).open(Recorder())


async def test_a_server_that_evicts_is_refused(start_valkey: StartValkey) -> None:
    server = await start_valkey(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    with pytest.raises(StoreError, match="noeviction"):
        await Store(ValkeyEngine(server.store("x"), POLICY, NullObserver()), POLICY).open(Recorder())
