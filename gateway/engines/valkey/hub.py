"""What this node receives from the store, brought into one order and handed to its subscriber as effects.

Everything that is published takes a position from one counter, in the order in which the server runs the scripts. The
subscription keeps that order over all channels. It is lost in three ways, each of which is noticed and mended here,
before anything newer is delivered:

- **A room that this node was not subscribed to.** When the first of its members is here, it is subscribed to, and what
  was published before the subscription is read from its log.
- **A session that was attached.** What it missed was read at an earlier position than that of its attachment; the rest
  is read from the logs of its rooms.
- **A gap**: a message names a previous one that was not received, because the subscription was lost or is deaf. What is
  missing is read from the logs, as it is after each new subscription, and every few seconds to be sure.

What is read is merged by its position with what has been received meanwhile (`messages`); of what comes twice, the
second is dropped.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gateway.engines.effects import Attachment, Detachment, Movement, Publication
from gateway.engines.transaction import RoomId
from gateway.engines.valkey.messages import (
    Notice,
    Probe,
    RoomEvent,
    VolatileEvent,
    entry,
    parse_node,
    parse_room,
)
from gateway.errors import GatewayError
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gateway.engines.effects import Effect, Subscriber
    from gateway.engines.valkey.messages import Item
    from gateway.engines.valkey.node import Node
    from gateway.engines.valkey.subscription import Subscription

ROOMS_AT_ONCE: Final = 256
"""Rooms whose logs are read in one script."""

logger = get_logger(__name__)


@dataclass(slots=True)
class Channel:
    """A room that this node is subscribed to. ``newest``: the position of the newest event that was delivered."""

    room_id: int
    name: str
    newest: int
    unused: int = 0
    """For how many sweeps no member of it has been here."""


@dataclass(slots=True)
class Pending:
    """An attachment of this node that is committed, or about to be, with the ids of its rooms.

    ``since``: the position up to which what it missed was read; ``is_filled``: whether the rest was read as well.
    """

    attachment: Attachment
    rooms: dict[RoomId, str]
    since: int
    is_filled: bool = False


@dataclass(slots=True)
class Hub:
    """One subscription's worth: the engine makes a new one where the node has a new identity."""

    node: Node
    subscriber: Subscriber
    pending: dict[str, Pending]
    """Attachments that are committed, or being committed, and were not delivered yet, by token."""
    _channels: dict[int, Channel] = field(default_factory=dict)
    _by_channel: dict[bytes, int] = field(default_factory=dict)
    _by_name: dict[str, int] = field(default_factory=dict)
    _queue: deque[Item] = field(default_factory=deque)
    _newest_notice: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _passed: int = 0
    _waiters: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _subscription: Subscription | None = None
    _own: bytes = b""
    last_probe: float = 0.0
    """When the newest probe came, by the loop's clock."""

    # --- what the engine calls

    async def resume(self, subscription: Subscription) -> None:
        """Go on with a new subscription: what was published since the last one is read and delivered.

        Raises ConnectionError: it is lost again.
        """
        self._subscription = subscription
        self._own = self.node.address.channel_of_node(self.node.id).encode()
        self.last_probe = asyncio.get_running_loop().time()
        await subscription.subscribe([self._own.decode(), *(name.decode() for name in self._by_channel)])
        await self.catch_up()

    async def run(self) -> None:
        """Deliver, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                self._deliver_ready()
                if self._queue:
                    await self._prepare()

    def serves(self, room: str) -> bool:
        """Whether the events of a room are received here."""
        return room in self._by_name

    async def passed(self, position: int) -> None:
        """Wait until everything up to a position was delivered."""
        if position > self._passed:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiters, (position, next(self._numbers), future))
            await future

    def release(self) -> None:
        """Nobody is to wait any more: this hub is given up."""
        self._pass(2**62)

    def sweep(self) -> None:
        """Unsubscribe from rooms that have had no member here for two sweeps."""
        unused = []
        for channel in self._channels.values():
            channel.unused = 0 if self.subscriber.has_members(channel.name) else channel.unused + 1
            if channel.unused > 2:
                unused.append(channel)
        if unused and self._subscription is not None and not self._queue:
            for channel in unused:
                self._drop(channel)
            self._subscription.unsubscribe(self.node.address.channel_of_room(channel.room_id) for channel in unused)

    async def catch_up(self) -> None:
        """Read what was published and not received, and put it into the queue."""
        await self._read_notices()
        channels = list(self._channels.values())
        await self._read_rooms(channels)
        self._put([Probe(self.node.position)])

    # --- a `Receiver`

    def received(self, channel: bytes, message: bytes) -> None:
        if channel == self._own:
            item: Item = parse_node(message)
            if isinstance(item, Probe):
                self.last_probe = asyncio.get_running_loop().time()
        elif (room_id := self._by_channel.get(channel)) is not None:
            item = parse_room(room_id, message)
        else:
            return
        self._queue.append(item)
        self._arrived.set()

    # --- delivering

    def _deliver_ready(self) -> None:
        """Deliver what can be, up to the first item that needs something to be read before."""
        effects: list[Effect] = []
        while self._queue and self._is_ready(item := self._queue[0]):
            self._queue.popleft()
            self._take(item, effects)
            self._passed = max(self._passed, item.order[0])
        if effects:
            self.subscriber.committed(effects)
        self._pass(self._passed)

    def _pass(self, position: int) -> None:
        self._passed = position
        while self._waiters and self._waiters[0][0] <= position:
            *_, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)

    def _is_ready(self, item: Item) -> bool:
        match item:
            case RoomEvent():
                channel = self._channels.get(item.room_id)
                return channel is None or item.previous <= channel.newest
            case Notice():
                return item.previous <= self._newest_notice and not self._wanted(item)
        return True

    def _wanted(self, notice: Notice) -> dict[int, Channel]:
        """The rooms that must be subscribed to before a notice is delivered; and those of an attachment to be read."""
        if notice.position <= self._newest_notice:
            return {}
        if notice.kind == "move" and notice.fields[3]:
            room_id, name, newest, *_ = notice.fields
            return {} if room_id in self._channels else {room_id: Channel(room_id, name, newest)}
        if notice.kind == "attach" and (pending := self.pending.get(notice.fields[0])) and not pending.is_filled:
            return {room_id: Channel(room_id, name, notice.position) for room_id, name in pending.rooms.items()}
        return {}

    def _take(self, item: Item, effects: list[Effect]) -> None:
        match item:
            case RoomEvent():
                channel = self._channels.get(item.room_id)
                if channel is not None and item.position > channel.newest:
                    channel.newest = item.position
                    offset = self.node.epochs.offset(item.position)
                    effects.append(Publication(item.event, item.body, channel.name, offset, item.author))
            case VolatileEvent():
                channel = self._channels.get(item.room_id)
                if channel is not None:
                    effects.append(Publication(item.event, item.body, channel.name, None, item.author))
            case Notice():
                if item.position > self._newest_notice:
                    self._newest_notice = item.position
                    effects += self._effects_of(item)

    def _effects_of(self, notice: Notice) -> Iterable[Effect]:
        match notice.kind, notice.fields:
            case "move", [_, name, _, joined, left]:
                yield Movement(name, tuple(joined), tuple(left))
            case "event", [position, event, author, recipients, name]:
                offset = self.node.epochs.offset(position)
                yield Publication(event, notice.body, name, offset, author, tuple(recipients))
            case "attach", [token]:
                if (pending := self.pending.pop(token, None)) is not None:
                    yield pending.attachment
            case "replace", [connection]:
                yield Detachment(connection)

    # --- reading what is missing

    async def _prepare(self) -> None:
        """Do what the first item in the queue, and others like it, need before they can be delivered."""
        first = self._queue[0]
        try:
            if isinstance(first, Notice) and first.previous <= self._newest_notice:
                await self._open_rooms()
            else:
                await self.catch_up()
                if self._queue and self._queue[0].order == first.order:
                    self._skip_gap(first)
        except GatewayError:
            await asyncio.sleep(0.1)  # the server is away: it is tried again
        except ConnectionError:
            await asyncio.sleep(0.1)  # the subscription is lost: `resume` follows

    def _skip_gap(self, first: Item) -> None:
        """What is missing before an item is nowhere: its room was deleted, or its log trimmed."""
        if isinstance(first, RoomEvent):
            self._give_up(first.room_id, first.previous)
        elif isinstance(first, Notice):
            self._newest_notice = first.previous
            self.subscriber.missed(None)

    async def _open_rooms(self) -> None:
        """Subscribe to the rooms that the notices in the queue need, and complete their attachments."""
        wanted: dict[int, Channel] = {}
        attaching: list[tuple[Pending, int]] = []
        for item in self._queue:
            if isinstance(item, Notice):
                for room_id, channel in self._wanted(item).items():
                    wanted.setdefault(room_id, channel)
                if item.kind == "attach" and (pending := self.pending.get(item.fields[0])):
                    attaching.append((pending, item.position))
        new = [channel for room_id, channel in wanted.items() if room_id not in self._channels]
        await self._subscribe(new)
        await self._read_rooms(new)
        for pending, position in attaching:
            await self._fill(pending, position)

    async def _subscribe(self, channels: Collection[Channel]) -> None:
        if not channels:
            return
        if self._subscription is None:
            raise ConnectionError
        names = {self.node.address.channel_of_room(channel.room_id): channel for channel in channels}
        for name, channel in names.items():
            self._channels[channel.room_id] = channel
            self._by_channel[name.encode()] = channel.room_id
            self._by_name[channel.name] = channel.room_id
        try:
            await self._subscription.subscribe(names)
        except BaseException:
            for channel in channels:
                self._drop(channel)
            raise

    def _drop(self, channel: Channel) -> None:
        del self._channels[channel.room_id]
        del self._by_channel[self.node.address.channel_of_room(channel.room_id).encode()]
        if self._by_name.get(channel.name) == channel.room_id:
            del self._by_name[channel.name]

    async def _fill(self, pending: Pending, position: int) -> None:
        """Add to an attachment what was published after what it missed was read, and before it was committed."""
        if not pending.is_filled and pending.rooms:
            username = pending.attachment.session.username
            found = await self._since(dict.fromkeys(pending.rooms, pending.since))
            late = [event for event in found if event.position <= position and event.author != username]
            late.sort(key=lambda event: event.position)
            missed = tuple(
                Publication(
                    event.event,
                    event.body,
                    pending.rooms[RoomId(event.room_id)],
                    self.node.epochs.offset(event.position),
                    recipients=(username,),
                )
                for event in late
            )
            pending.attachment = replace(pending.attachment, missed=(*pending.attachment.missed, *missed))
        pending.is_filled = True

    async def _read_notices(self) -> None:
        (sent, *_) = await self.node.read("since", self.node.id, self._newest_notice)
        notices = [notice for notice in map(parse_node, sent) if isinstance(notice, Notice)]
        if notices and notices[0].previous > self._newest_notice:
            # More was sent than the store keeps for a node: its clients come back and recover.
            self._newest_notice = notices[0].previous
            self.subscriber.missed(None)
        self._put(notices)

    async def _read_rooms(self, channels: Sequence[Channel]) -> None:
        for start in range(0, len(channels), ROOMS_AT_ONCE):
            part = channels[start : start + ROOMS_AT_ONCE]
            self._put(await self._since({channel.room_id: channel.newest for channel in part}))

    async def _since(self, newest: dict[int, int]) -> list[RoomEvent]:
        """What was published in rooms after these positions. Members of a room of which it is not all there any more
        are made to come back and recover.
        """
        found: list[RoomEvent] = []
        while newest:
            pairs = [value for pair in newest.items() for value in pair]
            _, *rooms = await self.node.read("since", self.node.id, self._newest_notice, *pairs)
            newest = {}
            for room_id, state, *entries in rooms:
                events = [entry(int(room_id), fields) for fields in entries]
                found += events
                if state == b"more":
                    newest[int(room_id)] = max(event.position for event in events)
                elif state == b"lost":
                    self._give_up(int(room_id), max((event.position for event in events), default=0))
        return found

    def _give_up(self, room_id: int, position: int) -> None:
        """Not all of a room's events up to a position are there any more."""
        channel = self._channels.get(room_id)
        if channel is not None:
            channel.newest = max(channel.newest, position)
            self.subscriber.missed([channel.name])

    def _put(self, items: Sequence[Item]) -> None:
        """Merge items into the queue, in the order of all."""
        if items:
            self._queue = deque(sorted((*items, *self._queue), key=_order))
            self._arrived.set()


def _order(item: Item) -> tuple[int, int]:
    return item.order


__all__ = ["Channel", "Hub", "Pending", "VolatileEvent"]
