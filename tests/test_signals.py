"""What a signal does to the gateway, also when its disk or its event loop hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from gateway.signals import REPEAT_WINDOW
from harness.client import Join, make_room, succeed
from harness.http import request
from harness.inbox import TIMEOUT
from harness.process import GatewayProcess, StartGateway, die_with_parent
from harness.syncs import HeldSyncs
from harness.waiting import until

PROMISED = 10.0
"""Seconds within which README says that a gateway is gone."""

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
async def test_a_signal_stops_the_gateway_in_order(
    start_gateway: StartGateway, join: Join, number: signal.Signals
) -> None:
    """Each client is closed with 1012, and the exit status is 0: of a lost terminal too."""
    own = await start_gateway(on_disk=True)
    client = await join("json", to=own)
    await own.signal(number)
    assert await client.wait_closed() == 1012
    assert await own.wait() == 0
    assert f"signal={number.name}" in own.log


class IgnoringHangups(GatewayProcess):
    def _before_exec(self) -> None:
        super()._before_exec()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def test_nohup_is_respected() -> None:
    """A process that was started with SIGHUP ignored goes on through one."""
    async with IgnoringHangups() as own:
        await own.signal(signal.SIGHUP)
        await own.signal(signal.SIGQUIT)
        await until(lambda: "the stacks of all threads" in own.log)  # by then the first signal has come, too
        assert "stopping" not in own.log
        assert (await request("GET", f"{own.url}/health")).status == 200
        assert await own.stop() == 0


async def test_sigquit_dumps_the_stacks_of_all_threads(start_gateway: StartGateway, join: Join) -> None:
    """Of all threads, as often as it comes, and the gateway goes on; also while it stops."""
    own = await start_gateway(on_disk=True)
    client = await join("json", to=own)
    for times in (1, 2):
        await own.signal(signal.SIGQUIT)
        await until(lambda times=times: own.log.count("the stacks of all threads") == times)  # type: ignore[misc]
    await until(lambda: own.log.count("in _commit_batches") + own.log.count("in _commit_groups") == 2)
    assert own.log.count("in serve") == 2, own.log
    await make_room(client)
    assert await own.stop() == 0


async def test_sigusr1_ends_no_gateway_without_workers(start_gateway: StartGateway, join: Join) -> None:
    """A unit file that reloads workers may outlast them."""
    own = await start_gateway()
    client = await join("json", to=own)
    await own.signal(signal.SIGUSR1)
    await until(lambda: "no worker to restart" in own.log)
    await make_room(client)
    assert await own.stop() == 0


async def test_a_stop_while_the_disk_hangs_is_bounded(start_gateway: StartGateway, join: Join) -> None:
    """It ends in time; the log says what was not kept, the exit status is 3, clients were closed; what was not acked
    was not promised, and what was is there.
    """
    with contextlib.closing(HeldSyncs()) as syncs:
        own = await start_gateway(on_disk=True, syncs=syncs)
        clients = [await join(wire, to=own) for wire in ("json", "bare", "json")]
        alice = clients[0]
        room = await make_room(alice)
        kept = await succeed(alice, "send-msg", room=room, content="kept")
        syncs.hold()
        sending = asyncio.create_task(alice.call("send-msg", room=room, content="not acked"))
        async with asyncio.timeout(TIMEOUT):
            await syncs.came.wait()
        started = time.monotonic()
        await own.signal(signal.SIGTERM)
        assert await own.wait() == 3
        assert time.monotonic() - started < PROMISED
        assert {await client.wait_closed() for client in clients} == {1012}
        with pytest.raises(AssertionError, match="1012"):
            await sending
        assert "not everything was saved" in own.log
        assert "stopped" in own.log
    own._syncs = None
    await own.restart()
    back = await join("json", alice.username, to=own, query={"pid": alice.pid, "offset": alice.offset})
    history = (await succeed(back, "history", room=room))["messages"]
    assert history[0]["id"] == kept["id"]


async def test_a_second_signal_while_the_disk_hangs_exits_at_once(start_gateway: StartGateway, join: Join) -> None:
    """Ends it at once, as any program."""
    with contextlib.closing(HeldSyncs()) as syncs:
        own = await start_gateway(on_disk=True, syncs=syncs)
        alice = await join("json", to=own)
        syncs.hold()
        creating = asyncio.create_task(alice.call("create-room", room="r"))
        async with asyncio.timeout(TIMEOUT):
            await syncs.came.wait()
        await own.signal(signal.SIGTERM)
        await until(lambda: "stopping" in own.log)
        await asyncio.sleep(2 * REPEAT_WINDOW)  # signals that are closer are one
        started = time.monotonic()
        await own.signal(signal.SIGTERM)
        assert await own.wait() == -signal.SIGTERM
        assert time.monotonic() - started < 2
        creating.cancel()


async def test_two_signals_at_once_count_as_one(start_gateway: StartGateway, join: Join) -> None:
    """``timeout`` and others send two: clients are closed in order all the same, and what they sent is kept."""
    own = await start_gateway(on_disk=True)
    clients = [await join("json", to=own) for _ in range(20)]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        await own.signal(number)
    assert {await client.wait_closed() for client in clients} == {1012}
    assert await own.wait() == 0
    assert "stopped" in own.log


STUCK = """
import asyncio, sys, time
from gateway import logs
from gateway.signals import Signals

async def main():
    signals.wait(3)
    print("ready", flush=True)
    time.sleep(1000)  # it never returns

signals = Signals()
logs.configure("info", "text")
asyncio.run(main())
"""


def test_a_stuck_event_loop_does_not_prevent_a_stop() -> None:
    """An operation that never returns cannot keep the process: it ends in time, with 3, and says where it hung."""
    words = [sys.executable, "-c", STUCK]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            started = time.monotonic()
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 3
            assert 5 < time.monotonic() - started < PROMISED
            assert "the shutdown timed out" in log
            assert "in main" in log
        finally:
            process.kill()


def test_a_signal_during_the_start_stops_the_gateway() -> None:
    """While it starts, it stops as soon as it can, and cleanly, or it had not begun to listen to signals."""
    words = [sys.executable, "-m", "gateway", "--store", "sqlite://", "--port", "0"]
    for delay in (0.3, 0.5, 0.7, 0.9):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(delay)  # at some moment of its start
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT)
            assert process.returncode in {0, -signal.SIGTERM}
            assert "Traceback" not in log


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a process the first of its namespace")
async def test_the_gateway_can_be_the_first_process_of_a_container() -> None:
    """Where a signal that is not handled does nothing, it stops in order too."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    script = f"{sys.executable} -m gateway --store sqlite:// --port 0"
    process = await asyncio.create_subprocess_exec(
        *unshare, *script.split(), stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    assert process.stdout is not None
    if not (line := await process.stdout.readline()):
        pytest.skip("no new namespaces here")
    assert b"ready" in line
    children = await asyncio.to_thread(
        subprocess.check_output,
        ["pgrep", "-P", str(process.pid)],
        text=True,
    )
    os.kill(int(children.split()[0]), signal.SIGTERM)
    async with asyncio.timeout(TIMEOUT):
        assert await process.wait() == 0
