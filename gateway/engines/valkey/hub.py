"""What this node receives from the store, brought into one order and handed to its subscriber as effects.

Everything that is published takes a position from one counter, in the order in which the server runs the scripts. The
subscription keeps that order over all channels. It is incomplete in three cases, each of which is noticed and mended
here before anything newer is delivered:

- **A room that this node was not subscribed to.** When its first member is here, it is subscribed to, and what was
  published before the subscription is read from its log.
- **A session that was attached.** What it missed was read at an earlier position than that of its attachment; the rest
  is read from the logs of its rooms.
- **A gap**: a message names a previous one that was not received, because the subscription was lost or is deaf. What is
  missing is read from the logs, as it is after each new subscription, and every few seconds to be sure.

What is read is merged by position with what has been received meanwhile (`messages`). Of what comes twice, the second
is dropped. Replies to reads may overtake the subscription, so what was read is delivered only when nothing before it
can still be under way: all else is left to the subscription, or waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gateway.engines.effects import Attachment, Detachment, Movement, Publication
from gateway.engines.valkey.channels import Channel, Channels
from gateway.engines.valkey.messages import Notice, Probe, RoomEvent, VolatileEvent, entry, parse_node, parse_room
from gateway.engines.valkey.waiters import Waiters
from gateway.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.engines.effects import Effect, Subscriber
    from gateway.engines.valkey.messages import Item
    from gateway.engines.valkey.node import Node
    from gateway.engines.valkey.subscription import Subscription

ROOMS_AT_ONCE: Final = 256
"""Rooms whose logs are read in one script."""

MOST_NOTICES: Final = 1000
"""How many notices one script replies (``scripts/since.lua``)."""

SWEEPS: Final = 2
"""For how many sweeps a room without members here stays subscribed to: they may be back soon."""

PAUSE: Final = 0.1
"""Seconds until the server is asked again for what is missing."""


@dataclass(slots=True)
class Pending:
    """An attachment of this node that is committed, or about to be, with the names of its rooms by their ids.

    ``since``: the position up to which what it missed was read; ``is_filled``: whether the rest was read as well.
    """

    attachment: Attachment
    rooms: dict[int, str]
    since: int
    is_filled: bool = False


class Hub:
    """Receives and delivers for one identity of this node; with a new one, a new hub begins."""

    def __init__(self, node: Node, subscriber: Subscriber, pending: dict[str, Pending], *, most: int) -> None:
        """``pending``: the attachments that are being committed, or were not delivered yet, by token. ``most``: about
        how many bytes of events are delivered at once (`Policy.commit_size`).
        """
        self._most = most
        self._node = node
        self._subscriber = subscriber
        self._pending = pending
        self._own = node.address.channel_of_node(node.id)
        self._channels = Channels(node.address)
        self._queue: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._newest_notice = 0
        """The position of the newest notice that was delivered."""
        self._complete = 0
        """The position up to which all that this node has to receive is here."""
        self._received = 0
        """The newest position that came from the subscription."""
        self._is_resumed = False
        """Whether what was published before the subscription was read."""
        self._waiters = Waiters()
        self._subscription: Subscription | None = None
        self.last_probe = 0.0
        """When the newest probe came, by the loop's clock."""

    # --- what the engine calls

    async def resume(self, subscription: Subscription) -> None:
        """Go on with a new subscription: what was published since the last one is read and delivered.

        Raises:
            ConnectionError: it is lost again.
            Unavailable
        """
        self._subscription = subscription
        self._is_resumed, self._received = False, 0
        self.last_probe = asyncio.get_running_loop().time()
        await subscription.subscribe([self._own, *self._channels.names(self._channels)])
        await self.catch_up()
        self._is_resumed = True
        self._complete = max(self._complete, self._received)
        self._arrived.set()

    async def run(self) -> None:
        """Deliver, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                if self._deliver_ready():
                    await asyncio.sleep(0)  # the transports send what was written
                elif self._queue:
                    await self._prepare(self._queue[0])

    def serves(self, room: str) -> bool:
        """Whether the events of a room are received here."""
        return self._channels.has(room)

    async def passed(self, position: int) -> bool:
        """Wait until everything up to a position was delivered; False where this hub is given up before."""
        return await self._waiters.passed(position)

    def release(self) -> None:
        """Nobody is to wait any more: this hub is given up."""
        self._waiters.release()

    def sweep(self) -> None:
        """Unsubscribe from rooms that have had no member here for a while."""
        if self._subscription is not None and not self._queue:
            used = [channel for channel in self._channels if self._subscriber.has_members(channel.name)]
            self._channels.close_unused(used, self._subscription, after=SWEEPS)

    async def catch_up(self) -> None:
        """Read what was published and not received, and put it into the queue: all of it, up to where the first of
        several reads was. What came later is received. Raises Unavailable.
        """
        notices, until = await self._read_notices()
        events = await self._read_rooms(list(self._channels), until)
        self._complete = max(self._complete, until)
        self._put([*notices, *events, Probe(until)])

    # --- a `Receiver`

    def received(self, channel: bytes, message: bytes) -> None:
        if (room_id := self._channels.room_of(channel)) is not None:
            self._receive(parse_room(room_id, message))
        elif channel == self._own.encode():
            item = parse_node(message)
            if isinstance(item, Probe):
                self.last_probe = asyncio.get_running_loop().time()
                if item.nodes_changed:
                    self._node.look_around()
            self._receive(item)

    def _receive(self, item: Item) -> None:
        self._received = max(self._received, item.order[0])
        if self._is_resumed:
            self._complete = max(self._complete, self._received)
        if self._queue and self._queue[-1].order > item.order:
            self._put([item])  # before what was read
            return
        self._queue.append(item)
        self._arrived.set()

    def _put(self, items: Sequence[Item]) -> None:
        """Merge items into the queue, in the order of all."""
        if items:
            self._queue = deque(sorted((*items, *self._queue), key=_order))
            self._arrived.set()

    # --- delivering

    def _deliver_ready(self) -> bool:
        """Deliver what can be, up to the first item for which something has to be read before. Returns whether it has
        stopped because that was enough at once.
        """
        effects: list[Effect] = []
        position = size = 0
        while self._queue and size < self._most and self._is_ready(self._queue[0]):
            item = self._queue.popleft()
            for effect in self._effects_of(item):
                effects.append(effect)
                size += len(effect.body) if isinstance(effect, Publication) else 0
            position = item.order[0]
        if effects:
            self._subscriber.committed(effects)
        self._node.note_position(position)
        self._waiters.reach(position)
        return size >= self._most

    def _is_ready(self, item: Item) -> bool:
        if item.order[0] > self._complete:
            return False
        match item:
            case RoomEvent():
                channel = self._channels.get(item.room_id)
                return channel is None or item.previous <= channel.newest
            case Notice():
                return item.previous <= self._newest_notice and not self._missing(item)
        return True

    def _missing(self, notice: Notice) -> list[Channel]:
        """The channels that a notice needs before it is delivered: an attachment to be filled, those of its rooms."""
        if notice.position <= self._newest_notice:
            return []
        match notice.kind, notice.fields:
            case "move", [room_id, name, newest, [_, *_], _] if room_id not in self._channels:
                return [Channel(room_id, name, newest)]
            case "attach", [token] if (pending := self._pending.get(token)) is not None and not pending.is_filled:
                return [Channel(room_id, name, notice.position) for room_id, name in pending.rooms.items()]
        return []

    def _effects_of(self, item: Item) -> Iterable[Effect]:
        match item:
            case RoomEvent():
                channel = self._channels.get(item.room_id)
                if channel is not None and item.position > channel.newest:
                    channel.newest = item.position
                    offset = self._node.epochs.offset(item.position)
                    yield Publication(item.event, item.body, channel.name, offset, item.author)
            case VolatileEvent():
                channel = self._channels.get(item.room_id)
                if channel is not None:
                    yield Publication(item.event, item.body, channel.name, None, item.author)
            case Notice() if item.position > self._newest_notice:
                self._newest_notice = item.position
                yield from self._effects_of_notice(item)

    def _effects_of_notice(self, notice: Notice) -> Iterable[Effect]:
        match notice.kind, notice.fields:
            case "move", [_, name, _, joined, left]:
                yield Movement(name, tuple(joined), tuple(left))
            case "event", [position, event, author, recipients, name]:
                offset = self._node.epochs.offset(position)
                yield Publication(event, notice.body, name, offset, author, tuple(recipients))
            case "attach", [token]:
                if (pending := self._pending.pop(token, None)) is not None:
                    yield pending.attachment
            case "replace", [connection]:
                yield Detachment(connection)

    # --- reading what is missing

    async def _prepare(self, first: Item) -> None:
        """Do what the first item in the queue, and others like it, need before they can be delivered."""
        try:
            if first.order[0] > self._complete:
                await self._arrived.wait()  # for the probe that was published when it was read
                self._arrived.clear()
            elif isinstance(first, Notice) and first.previous <= self._newest_notice:
                await self._open_rooms()
            else:
                await self.catch_up()
                if self._queue[0].order == first.order:
                    self._skip_gap(first)
        except (Unavailable, ConnectionError):  # of the server, or of the subscription: `resume` follows
            await asyncio.sleep(PAUSE)

    def _skip_gap(self, first: Item) -> None:
        """What is missing before an item is nowhere: its room was deleted, or its log trimmed."""
        if isinstance(first, RoomEvent):
            self._give_up(first.room_id, first.previous)
        elif isinstance(first, Notice):
            self._newest_notice = first.previous
            self._subscriber.missed(None)

    def _give_up(self, room_id: int, position: int) -> None:
        """Not all of a room's events up to a position are there any more."""
        channel = self._channels.get(room_id)
        if channel is not None:
            channel.newest = max(channel.newest, position)
            self._subscriber.missed([channel.name])

    async def _open_rooms(self) -> None:
        """Subscribe to the rooms that the notices in the queue need, and complete their attachments."""
        notices = [item for item in self._queue if isinstance(item, Notice)]
        new: dict[int, Channel] = {}
        for notice in notices:
            for channel in self._missing(notice):
                if channel.room_id not in self._channels:
                    new.setdefault(channel.room_id, channel)
        if new:
            if self._subscription is None:
                raise ConnectionError
            await self._channels.open(new.values(), self._subscription)
            self._put(await self._read_rooms(list(new.values())))
        for notice in notices:
            if notice.kind == "attach" and (pending := self._pending.get(notice.fields[0])) is not None:
                await self._fill(pending, notice.position)

    async def _fill(self, pending: Pending, position: int) -> None:
        """Add to an attachment what was published after what it missed was read, and before it was committed."""
        if pending.rooms and not pending.is_filled:
            username, rooms = pending.attachment.session.username, pending.rooms
            found = await self._since(dict.fromkeys(rooms, pending.since), position)
            late = sorted(found, key=_order)
            offset = self._node.epochs.offset
            missed = tuple(
                Publication(each.event, each.body, rooms[each.room_id], offset(each.position), recipients=(username,))
                for each in late
                if each.author != username
            )
            pending.attachment = replace(pending.attachment, missed=(*pending.attachment.missed, *missed))
        pending.is_filled = True

    async def _read_notices(self) -> tuple[list[Notice], int]:
        """Notices that were not delivered, and the position up to which these are all."""
        (sent, *_) = await self._node.read("since", self._node.id, self._newest_notice)
        until = self._node.read_position
        notices = [notice for notice in map(parse_node, sent) if isinstance(notice, Notice)]
        if notices and notices[0].previous > self._newest_notice:
            self._skip_gap(notices[0])  # more was sent than the store keeps for a node
        return notices, notices[-1].position if len(notices) == MOST_NOTICES else until

    async def _read_rooms(self, channels: Sequence[Channel], until: float = math.inf) -> list[RoomEvent]:
        """What was published in rooms and not delivered, up to a position."""
        found: list[RoomEvent] = []
        for start in range(0, len(channels), ROOMS_AT_ONCE):
            part = channels[start : start + ROOMS_AT_ONCE]
            found += await self._since({channel.room_id: channel.newest for channel in part}, until)
        return found

    async def _since(self, newest: dict[int, int], until: float) -> list[RoomEvent]:
        """What was published in rooms after these positions, up to another. Members of a room of which it is not all
        there any more are made to come back and recover.
        """
        found: list[RoomEvent] = []
        while newest:
            pairs = [value for pair in newest.items() for value in pair]
            _, *rooms = await self._node.read("since", self._node.id, self._newest_notice, *pairs)
            newest = {}
            for room_id, state, *entries in rooms:
                events = [entry(int(room_id), fields) for fields in entries]
                wanted = [event for event in events if event.position <= until]
                found += wanted
                last = max((event.position for event in wanted), default=0)
                if state == b"more" and wanted == events:
                    newest[int(room_id)] = last
                elif state == b"lost":
                    self._give_up(int(room_id), last)
        return found


def _order(item: Item) -> tuple[int, int]:
    return item.order
