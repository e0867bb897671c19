"""What happens to gateways, to their server, and to the connections of their clients while these talk."""

from __future__ import annotations

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from harness.process import GatewayProcess
    from harness.proxy import Proxy
    from harness.valkey import ValkeyProxy, ValkeyServer
    from soak.members import Member

LIFE = 1.0
"""Seconds that a gateway lives at least, once half of the clients are back."""

SMALL_BUFFERS, USUAL_BUFFERS = "pubsub 32kb 16kb 1", "pubsub 32mb 8mb 60"
"""How much the server keeps for a subscriber that does not read."""


class Losses:
    """Connections are lost, on either side or between, and stalled."""

    def __init__(self, proxy: Proxy, members: Sequence[Member], chance: Random, rate: float) -> None:
        """``rate``: how many in a second, besides those that are reset by the dozen."""
        self._proxy = proxy
        self._members = members
        self._chance = chance
        self._rate = rate

    async def lose_some(self) -> None:
        """One after the other, until cancelled."""
        while True:
            link = self._proxy.pick(self._chance)
            match self._chance.choice(("lose", "lose", "reset", "stall", "stall")):
                case "lose":
                    member = self._chance.choice(self._members)
                    if member.online:
                        await member.lose()
                case "reset" if link is not None:
                    link.reset()
                case "stall" if link is not None:
                    link.stall(self._chance.uniform(0.1, 5))
            await asyncio.sleep(self._chance.expovariate(self._rate))  # at their rate

    async def lose_many(self) -> None:
        """Every 1 to 5 seconds reset or stall one in ten connections, or stall them all, until cancelled."""
        while True:
            what = self._chance.choice(("reset", "reset", "stall", "stall all"))
            seconds = self._chance.uniform(0.1, 2)
            for link in self._proxy.links():
                if what == "stall all" or self._chance.random() < 0.1:
                    if what == "reset":
                        link.reset()
                    else:
                        link.stall(seconds)
            await asyncio.sleep(self._chance.uniform(1, 5))  # at their rate


class Trouble(ABC):
    """What happens to what the clients connect to."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.counts: Counter[str] = Counter()
        """How often each kind of trouble was made."""
        self.up = 0.0
        """Seconds in which there was a gateway."""

    @abstractmethod
    async def run(self, seconds: float, members: Sequence[Member], is_enough: Callable[[], bool]) -> None:
        """Make trouble for that long, and until it `is_enough`. In the end, everything works."""


class Kills(Trouble):
    """The gateway is killed and started again."""

    def __init__(self, chance: Random, gateway: GatewayProcess, kills: int) -> None:
        super().__init__(chance)
        self._gateway = gateway
        self._kills = kills

    async def run(self, seconds: float, members: Sequence[Member], is_enough: Callable[[], bool]) -> None:
        began = since = time.monotonic()
        for number in range(self._kills):
            due = began + seconds * (number + self.chance.uniform(0.5, 1)) / self._kills
            await half_back(members)
            await asyncio.sleep(max(LIFE, due - time.monotonic()))  # a life of the gateway
            self.up += time.monotonic() - since
            await self._gateway.kill9()
            await self._gateway.restart()
            self.counts["kill"] += 1
            since = time.monotonic()
        await asyncio.sleep(max(LIFE, began + seconds - time.monotonic()))  # its last life
        while not is_enough():  # noqa: ASYNC110 (there is no event for each delivery)
            await asyncio.sleep(1)  # the other trouble goes on
        self.up += time.monotonic() - since


async def half_back(members: Sequence[Member]) -> None:
    while 2 * sum(member.online for member in members) < len(members):  # noqa: ASYNC110 (there is no event)
        await asyncio.sleep(0.1)  # the trouble goes on


@dataclass(frozen=True, slots=True)
class Node:
    """A gateway, and what is between it and its server."""

    gateway: GatewayProcess
    proxy: ValkeyProxy

    async def start(self) -> None:
        """Start it again, as often as it takes: it does not start while the server is away."""
        while True:
            with suppress(AssertionError):
                return await self.gateway.restart()
            await asyncio.sleep(0.1)  # before the next attempt


class Outages(Trouble):
    """Nodes are killed, stopped and paused, and their ways to the server are cut, stalled and deafened, one at a time;
    and the server is killed, stopped and paused, too, and closes subscriptions.
    """

    def __init__(self, chance: Random, nodes: Sequence[Node], server: ValkeyServer, longest: float) -> None:
        """``longest``: for how many seconds something is away at most."""
        super().__init__(chance)
        self._nodes = nodes
        self._server = server
        self._longest = longest

    async def run(self, seconds: float, members: Sequence[Member], is_enough: Callable[[], bool]) -> None:
        began = time.monotonic()

        def is_over() -> bool:
            return time.monotonic() - began > seconds and is_enough()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._disturb_nodes(is_over))
            tasks.create_task(self._disturb_server(is_over))
        self.up = time.monotonic() - began

    async def _disturb_nodes(self, is_over: Callable[[], bool]) -> None:
        kinds = (self._kill, self._stop, self._pause, self._cut, self._stall, self._deafen, self._silence, self._slow)
        while not is_over():
            for trouble in self.chance.sample(kinds, len(kinds)):
                if not is_over():
                    self.counts[trouble.__name__.removeprefix("_")] += 1
                    await trouble(self.chance.choice(self._nodes))
                    await asyncio.sleep(self.chance.uniform(0.5, 3))  # a time without

    async def _disturb_server(self, is_over: Callable[[], bool]) -> None:
        kinds = (self._kill_server, self._stop_server, self._pause_server, self._kill_subscribers, self._shrink_buffers)
        while not is_over():
            for trouble in self.chance.sample(kinds, len(kinds)):
                if not is_over():
                    self.counts[trouble.__name__.removeprefix("_")] += 1
                    await trouble()
                    await asyncio.sleep(self.chance.uniform(2, 8))  # a time without

    async def _while(self) -> None:
        await asyncio.sleep(self.chance.choice((1, self.chance.uniform(0, self._longest))))  # it is away

    # --- a node

    async def _kill(self, node: Node) -> None:
        await node.gateway.kill9()
        await self._while()
        await node.start()

    async def _stop(self, node: Node) -> None:
        assert await node.gateway.stop() in {0, 3}
        await node.start()

    async def _pause(self, node: Node) -> None:
        """As a virtual machine is."""
        await node.gateway.signal(signal.SIGSTOP)
        await asyncio.sleep(self._longest)  # longer than its lease
        await node.gateway.signal(signal.SIGCONT)

    async def _cut(self, node: Node) -> None:
        node.proxy.refuse()
        node.proxy.reset()
        await self._while()
        await node.proxy.listen()

    async def _stall(self, node: Node) -> None:
        node.proxy.stall()
        await self._while()
        node.proxy.flow()

    async def _deafen(self, node: Node) -> None:
        """Its subscription hears nothing more."""
        for link in node.proxy.subscribing():
            link.deafen()

    async def _silence(self, node: Node) -> None:
        """Its commands arrive, and the replies do not."""
        for link in node.proxy.commanding():
            link.deafen()

    async def _slow(self, node: Node) -> None:
        node.proxy.delay = 0.05
        await self._while()
        node.proxy.delay = 0.0

    # --- the server

    async def _kill_server(self) -> None:
        await self._server.kill9()
        await self._while()
        await self._server.restart()

    async def _stop_server(self) -> None:
        await self._server.stop()
        await self._while()
        await self._server.restart()

    async def _pause_server(self) -> None:
        self._server.pause()
        await self._while()
        self._server.resume()

    async def _kill_subscribers(self) -> None:
        await self._server.kill_subscribers()

    async def _shrink_buffers(self) -> None:
        """Until nodes that read too slowly are closed."""
        await self._server.configure("client-output-buffer-limit", SMALL_BUFFERS)
        await self._while()
        await self._server.configure("client-output-buffer-limit", USUAL_BUFFERS)
