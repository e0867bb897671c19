"""The store on a Valkey or Redis server as an `Engine`, which many nodes share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, TypeVar

from redis.exceptions import RedisError

from gateway.engines.base import Receipt
from gateway.engines.valkey.address import Address
from gateway.engines.valkey.appends import ELSEWHERE, NO_MEMBER, Appends
from gateway.engines.valkey.batches import Batches
from gateway.engines.valkey.calls import Calls
from gateway.engines.valkey.cluster import Cluster
from gateway.engines.valkey.hub import Hub
from gateway.engines.valkey.node import FIRST_PAUSE, LAST_PAUSE, RETRY_AFTER, Node
from gateway.engines.valkey.records import split_session_key
from gateway.engines.valkey.subscription import Subscription
from gateway.errors import GatewayError, RoomNotFound, StoreError, Unavailable, Unconfirmed
from gateway.logs import get_logger
from gateway.tasks import keep_running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.engines.base import Durability, Policy, Rule
    from gateway.engines.effects import Subscriber
    from gateway.observe import Observer

T = TypeVar("T")
logger = get_logger(__name__)

DEAF_AFTER: Final = 5.0
"""For how long no probe may come back, in seconds, before a subscription is given up."""

CHECK_INTERVAL: Final = 10.0
"""How often the positions of all rooms are compared, in seconds, and unused rooms unsubscribed from."""


class ValkeyEngine:
    """An `Engine` (see ``engines/base.py``)."""

    def __init__(
        self,
        url: str,
        policy: Policy,
        observer: Observer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``url``: see `Address.parse`. ``clock`` returns Unix time:
        what it is ahead of the system's is added to the server's time.
        """
        self._policy = policy
        self._observer = observer
        self._clock = clock
        self._address = Address.parse(url)
        self._node = Node(self._address, self, shift=self._shift)
        self._batches = Batches(self._node, policy)
        self._appends = Appends(self._node, policy)
        self._subscriber: Subscriber
        self._hub: Hub
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._delivering: asyncio.Task[None] | None = None
        self._calls = Calls()
        self._unsure = asyncio.Event()
        """The connection was lost, and with it perhaps replies to commits."""

    def _shift(self) -> int:
        return 0 if self._clock is time.time else round((self._clock() - time.time()) * 1000)

    # --- an `Engine`

    async def open(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        await self._node.open()
        parts = (self._batches.run, self._stay_subscribed, self._check, self._settle_strays)
        self._tasks = [asyncio.create_task(keep_running(part)) for part in parts]

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - see `Engine.close`
        is_kept = await self._calls.finish(timeout)
        self._batches.close()
        for task in (*self._tasks, *([] if self._delivering is None else [self._delivering])):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._delivering is not None:
            self._hub.release()
        if self._subscription is not None:
            await self._subscription.close()
        await self._node.close()
        return is_kept

    def problem(self) -> str | None:
        return self._node.problem()

    def running_ms(self) -> int:
        return self._node.clock.running_ms()

    def cluster(self) -> Cluster:
        return Cluster(self._node)

    def durability(self) -> Durability:
        return self._node.durability

    async def run(self, client: str, rule: Rule[T], *, low_priority: bool = False) -> T:
        with self._calls.counted():
            async with self._calls.rule_of(client):
                hub = self._hub  # of the identity with which it is committed
                result, position = await self._batches.put(client, rule, low_priority=low_priority)
                if position:
                    await self._deliver(hub, position)
                return result

    async def append_message(
        self, actor: str, room_names: Sequence[str], content: str, message_id: str | None
    ) -> Receipt:
        with self._calls.counted():
            await self._calls.after_rules_of(actor)
            hub = self._hub  # of the identity with which it is appended
            shown, position, ts, spelling = await self._appends.put(actor, room_names, content, message_id)
            if position == NO_MEMBER:
                raise RoomNotFound(room_names[-1])
            if position == ELSEWHERE:
                raise Unavailable("The session moved to another connection; try again.")
            if position and hub.serves(room_names[spelling]):
                await self._deliver(hub, position)
            return Receipt(shown, ts, duplicate=not position)

    async def _deliver(self, hub: Hub, position: int) -> None:
        """Wait until everything up to a position was delivered. Raises Unconfirmed: it never will be."""
        self._node.note_position(position)
        if not await hub.passed(position):
            raise Unconfirmed("This node lost its place in the cluster; try again.", retry_after=RETRY_AFTER)

    # --- an `Owner` of the node

    async def connected(self, *, anew: bool) -> None:
        if anew:
            if self._delivering is not None:
                self._delivering.cancel()
                self._hub.release()
                self._subscriber.missed(None)
            self._hub = Hub(self._node, self._subscriber, self._batches.pending, most=self._policy.commit_size)
            self._delivering = asyncio.create_task(keep_running(self._hub.run))
        if not anew:
            self._unsure.set()
        if self._subscription is not None:
            self._subscription.abort()  # it is made anew, by `_stay_subscribed`
        elif anew:
            await self._subscribe()

    def beaten(self) -> None:
        if asyncio.get_running_loop().time() - self._hub.last_probe > DEAF_AFTER and self._subscription is not None:
            logger.warning("the subscription hears nothing; it is made anew")
            self._subscription.abort()

    # --- the subscription

    async def _subscribe(self) -> None:
        subscription = Subscription(await self._address.connect(), self._hub)
        try:
            await subscription.open()
            self._subscription = subscription
            await self._hub.resume(subscription)
        except BaseException:
            await subscription.close()
            raise

    async def _settle_strays(self) -> None:
        while True:
            await self._unsure.wait()
            self._unsure.clear()
            try:
                await self._disown_strays()
            except GatewayError:
                self._unsure.set()
                await asyncio.sleep(LAST_PAUSE)

    async def _disown_strays(self) -> None:
        """Have the sessions suspended that the store takes for live here, and which are not: when the connection was
        lost, so was the reply to their log-in.
        """
        (held,) = await self._node.read("held", self._node.id)
        if not await self._hub.passed(self._node.read_position):
            return  # nothing is live on what this node is now
        strays = [
            value
            for key, connection in zip(held[::2], held[1::2], strict=True)
            if not self._subscriber.has_session(*split_session_key(key))
            for value in (key, connection)
        ]
        if strays:
            await self._node.run("disown", self._node.id, *strays)

    async def _stay_subscribed(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if self._subscription is not None:
                await self._subscription.lost()
                await self._subscription.close()
            try:
                await self._subscribe()
                pause = FIRST_PAUSE
            except (RedisError, OSError, GatewayError, StoreError):
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_PAUSE)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            with contextlib.suppress(GatewayError):
                self._hub.sweep()
                await self._hub.catch_up()
