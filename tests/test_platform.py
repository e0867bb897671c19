"""The gateway as a Heroku-style platform runs it: `requirements.txt`, the `web:` line of the Procfile in a shell,
`PORT`, `REDIS_URL`, several dynos behind a router without affinity, and restarts at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from harness.balancer import balancing, round_robin
from harness.client import make_room
from harness.http import request
from harness.names import fresh_name
from harness.process import COMMAND, GatewayProcess, stable_port
from harness.proxy import Proxy
from harness.waiting import until
from soak.checker import History, Message
from soak.members import JSONMember, Member, StockMember

if TYPE_CHECKING:
    from harness.client import Join
    from harness.node import Driver
    from harness.valkey import StartValkey, ValkeyServer

ROOT = Path(__file__).parents[1]

DYNOS = 3
PROMISED = 10.0
"""Seconds: README's for a stop. The platform waits for 30."""
BACK = 10.0
"""Seconds within which every client is back after a restart."""

STOCK_RECONNECTION = {"reconnectionDelay": 1000, "reconnectionDelayMax": 5000}
"""The stock client's defaults."""


def web_command() -> str:
    """What the platform runs in each dyno."""
    (command,) = re.findall(r"^web: (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    return str(command)


class Dyno(GatewayProcess):
    """A shell that runs a command of the Procfile, in a process group and a folder of its own."""

    _numbers = itertools.count(1)

    def __init__(self, command: str, folder: Path, **variables: str) -> None:
        super().__init__()
        # Some shells replace themselves with the only command that they are given; this one has another to come.
        self.command = ("sh", "-c", f"{command}\nexit $?")
        self._port = stable_port()
        number = next(self._numbers)
        self._folder = folder / f"dyno{number}"
        self._variables = {"PORT": str(self._port), "DYNO": f"web.{number}", **variables}

    @property
    def arguments(self) -> list[str]:
        return []

    @property
    def environment(self) -> dict[str, str]:
        inherited = super().environment
        return {**inherited, "PATH": f"{COMMAND.parent}:{inherited['PATH']}", **self._variables}

    @property
    def address(self) -> str:
        """Where the router reaches it."""
        return f"127.0.0.1:{self._port}"

    async def spawn(self) -> asyncio.subprocess.Process:
        self._folder.mkdir()
        return await super().spawn()

    def _before_exec(self) -> None:
        super()._before_exec()
        os.setpgid(0, 0)
        os.chdir(self._folder)

    async def __aexit__(self, kind: object, error: BaseException | None = None, *_: object) -> None:
        if self.running:
            self._signal_all(signal.SIGKILL)
            await self.wait()
        if error is not None:
            error.add_note(self.log)
        self.check_log()

    async def stop(self) -> int:
        """SIGTERM to all of its processes at once. Returns when none is left, since they share their stderr."""
        self._signal_all(signal.SIGTERM)
        try:
            async with asyncio.timeout(PROMISED):
                return await self.wait()
        except TimeoutError:
            self._signal_all(signal.SIGKILL)
            raise

    def _signal_all(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Talk:
    """Members of one room who send numbered messages, each until it is acked, and then the next."""

    def __init__(self, members: list[Member], history: History) -> None:
        self.members = members
        self.history = history
        self.room = fresh_name("room")
        self._over = asyncio.Event()

    async def begin(self) -> None:
        creator, *others = self.members
        reply = await creator.insist("create-room", room=self.room, users=[other.username for other in others])
        assert reply["ok"], reply
        for member in self.members:
            member.settle_in([self.room])

    async def speak(self, member: Member) -> None:
        for number in itertools.count(1):
            if self._over.is_set():
                return
            await member.send_message(self.room, str(number), f"{member.username} {number}")
            await asyncio.sleep(0.05)  # about 20 a second

    async def time_return(self) -> float:
        """Wait until everybody is there and has what it missed."""
        since = time.monotonic()
        async with asyncio.timeout(2 * BACK):
            await asyncio.gather(*(member.settle() for member in self.members))
        return time.monotonic() - since

    async def end(self) -> None:
        """Let all read what there is in the end."""
        self._over.set()
        await self.time_return()
        for member in self.members:
            self.history.log(member.username, self.room, map(Message.of, await member.read_whole_log(self.room)))


@pytest.mark.parametrize(
    ("wire", "variables"),
    [
        pytest.param("socketio-polling", {}, id="as-it-is"),
        pytest.param("socketio-polling", {"WEB_CONCURRENCY": "2"}, id="two-workers"),
        pytest.param("socketio-websocket", {"GATEWAY_TRANSPORTS": "websocket"}, id="websocket-only"),
    ],
)
async def test_restarting_every_dyno_loses_nothing(
    valkey: ValkeyServer, driver: Driver, tmp_path: Path, wire: str, variables: dict[str, str]
) -> None:
    """While clients talk, each dyno gets SIGTERM, and a new one takes its place on another port. Every client returns
    to its session; every message reaches every other member once, and in one order.
    """
    history, chance = History(), random.Random()  # noqa: S311 (no secret)
    variables = {"REDIS_URL": valkey.store(fresh_name("store")), **variables}
    async with AsyncExitStack() as stack:

        async def start_dyno() -> Dyno:
            dyno = Dyno(web_command(), tmp_path, **variables)
            await stack.enter_async_context(dyno)
            return dyno

        dynos = await asyncio.gather(*(start_dyno() for _ in range(DYNOS)))
        addresses = [dyno.address for dyno in dynos]
        router = await stack.enter_async_context(balancing(round_robin(addresses)))
        members: list[Member] = [
            StockMember(router, fresh_name(), history, chance, 1, driver, wire, **STOCK_RECONNECTION) for _ in range(4)
        ]
        members += [JSONMember(router, fresh_name(), history, chance, 0.5) for _ in range(3)]
        await asyncio.gather(*(stack.enter_async_context(member) for member in members))
        talk = Talk(members, history)
        await talk.begin()
        async with asyncio.TaskGroup() as talking:
            for member in members[::2]:
                talking.create_task(talk.speak(member))
            for old in dynos:
                before = sum(member.recoveries for member in members)
                addresses.remove(old.address)  # the router sends it nothing new
                _, new = await asyncio.gather(old.stop(), start_dyno())
                addresses.append(new.address)
                assert (await request("GET", f"{new.url}/health/ready")).status == 200
                assert await talk.time_return() < BACK
                assert sum(member.recoveries for member in members) > before, "nobody was on it"
                check_stopped(old)
            await talk.end()
    assert [str(violation) for violation in history.judge()] == []
    counts = history.counts
    assert counts["sent"] == counts["acked"] > 50, counts
    assert counts["unrecovered"] == 0, counts


def check_stopped(dyno: Dyno) -> None:
    """Its gateway, or each worker of it, has shut down completely."""
    starts, stops = (len(re.findall(rf"\] {event} +\[gateway\.app\]", dyno.log)) for event in ("started", "stopped"))
    assert starts == stops > 0, dyno.log
    assert "[error" not in dyno.log, dyno.log


@pytest.mark.parametrize(
    ("url", "variables", "advice"),
    [
        (False, {}, "the disk is ephemeral"),
        (True, {}, "dynos may not reach each other"),
        (True, {"GATEWAY_TRANSPORTS": "websocket"}, "long-polling is refused"),
    ],
)
async def test_a_dyno_logs_what_its_operator_may_not_know(
    valkey: ValkeyServer, tmp_path: Path, url: bool, variables: dict[str, str], advice: str
) -> None:
    """That its disk is wiped, or what clients on long-polling need."""
    if url:
        variables = {"REDIS_URL": valkey.store(fresh_name("store")), **variables}
    async with Dyno(web_command(), tmp_path, **variables) as dyno:
        await until(lambda: " started " in dyno.log)
        given = [line for line in dyno.log.splitlines() if "[gateway.commands.advice]" in line]
        assert len(given) == 1
        assert f"] {advice} " in given[0]


async def test_a_server_whose_certificate_the_platform_has_signed(
    start_valkey: StartValkey, join: Join, tmp_path: Path
) -> None:
    """The gateway refuses it, and serves with the line that docs/deployment.md has for the Procfile."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await start_valkey()
    async with Proxy(server.url, tls=context) as front:
        variables = {"REDIS_URL": front.url.replace("redis://", "rediss://")}
        dyno = Dyno(web_command(), tmp_path, **variables)
        await dyno.spawn()
        assert await dyno.wait() == 1
        assert "certificate" in dyno.log.splitlines()[-1]
        assert "?ssl_cert_reqs=none" in dyno.log.splitlines()[-1]
        (documented,) = re.findall(r"^ *web: (.+)$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
        async with Dyno(documented, tmp_path, **variables) as dyno:
            await make_room(await join(to=dyno), await join("socketio-polling", to=dyno))


@pytest.mark.fast
def test_the_platform_installs_what_its_store_needs() -> None:
    """`requirements.txt` is this package, with the extra for `REDIS_URL`."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == [".[redis]"]
    assert "redis[hiredis]" in (ROOT / "setup.cfg").read_text().split("\nredis =\n")[1].split("\n")[0]
