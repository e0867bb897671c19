"""Messages: reading history, and ``typing``. Appending a message is `Engine.append_message`, not a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import events
from gateway.errors import InvalidPayload
from gateway.rules.rooms import find_membership, is_announced

if TYPE_CHECKING:
    from gateway.engines.base import Policy
    from gateway.engines.transaction import Messages, RoomRecord, Transaction


async def read_history(tx: Transaction, actor: str, room: str, before: str | None, limit: int) -> Messages:
    """The newest messages, or the newest before the one that ``before`` names by its offset or id.

    Raises:
        RoomNotFound
        InvalidPayload: ``before`` names no message of the room, or is the id of several.
    """
    membership = await find_membership(tx, actor, room)
    after = membership.joined if membership.room.history == events.JOINED else 0
    end = None if before is None else await _position(tx, membership.room, before, after)
    return await tx.history.messages(membership.room, after=after, before=end, limit=limit)


async def _position(tx: Transaction, room: RoomRecord, name: str, after: int) -> int:
    position = tx.log.position(name)
    if position is not None:
        return position
    found = await tx.history.find_message(room, name, after=after)
    if len(found) != 1:
        problem = "is the id of several messages; give an offset." if found else "is no message of this room."
        raise InvalidPayload.in_fields({"before": [f"{name!r} {problem}"]})
    return found[0]


async def publish_typing(tx: Transaction, policy: Policy, actor: str, room: str) -> None:
    """Publish ``typing`` to the other members; nothing is stored.

    Raises:
        RoomNotFound
    """
    place = (await find_membership(tx, actor, room)).room
    if is_announced(policy, place.member_count):
        tx.log.publish(place, events.TYPING, events.typing(place.name, actor), author=actor)
