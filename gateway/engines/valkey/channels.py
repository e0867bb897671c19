"""The rooms that this node is subscribed to: those in which it has a member, and some that it had one in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gateway.engines.valkey.address import Address
    from gateway.engines.valkey.subscription import Subscription


@dataclass(slots=True)
class Channel:
    """A room that this node is subscribed to. ``newest``: the position of the newest event that was delivered."""

    room_id: int
    name: str
    newest: int
    unused: int = 0
    """For how many sweeps no member of it has been here."""


class Channels:
    """By the ids of their rooms."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._by_id: dict[int, Channel] = {}
        self._ids: dict[bytes, int] = {}
        """By the names of the channels."""
        self._by_name: dict[str, int] = {}
        """Ids by the names of the rooms."""

    def __contains__(self, room_id: int) -> bool:
        return room_id in self._by_id

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._by_id.values())

    def get(self, room_id: int) -> Channel | None:
        return self._by_id.get(room_id)

    def room_of(self, channel: bytes) -> int | None:
        """The id of the room whose channel has that name."""
        return self._ids.get(channel)

    def has(self, room: str) -> bool:
        """Whether there is a channel of the room of that name."""
        return room in self._by_name

    def names(self, channels: Iterable[Channel]) -> list[str]:
        return [self._address.channel_of_room(channel.room_id) for channel in channels]

    async def open(self, channels: Collection[Channel], subscription: Subscription) -> None:
        """Subscribe to more. Raises ConnectionError: to none of them."""
        for channel in channels:
            self._by_id[channel.room_id] = channel
            self._ids[self._address.channel_of_room(channel.room_id).encode()] = channel.room_id
            self._by_name[channel.name] = channel.room_id
        try:
            await subscription.subscribe(self.names(channels))
        except BaseException:
            self._drop(channels)
            raise

    def close_unused(self, used: Iterable[Channel], subscription: Subscription, *, after: int) -> None:
        """Unsubscribe from what has had no members here for more than ``after`` sweeps; ``used``: what has some now."""
        kept = {channel.room_id for channel in used}
        unused = []
        for channel in self._by_id.values():
            channel.unused = 0 if channel.room_id in kept else channel.unused + 1
            if channel.unused > after:
                unused.append(channel)
        subscription.unsubscribe(self.names(unused))
        self._drop(unused)

    def _drop(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            del self._by_id[channel.room_id]
            del self._ids[self._address.channel_of_room(channel.room_id).encode()]
            if self._by_name.get(channel.name) == channel.room_id:
                del self._by_name[channel.name]
