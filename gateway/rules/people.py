"""Finding users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.engines.base import ListUsers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.base import Policy
    from gateway.engines.transaction import Transaction

LETTERS_TO_FIND_ANYBODY: Final = 2
"""How many letters of a name one must know to find a user with whom one shares no room."""

MAX_COMPANIONS: Final = 1_000
"""How many memberships are read to find those who share a room with a user. Reading more would delay others for too
long, and anyone can be found by more letters of the name.
"""


@dataclass(frozen=True, slots=True)
class UserPage:
    users: tuple[str, ...]
    more: bool


async def find_users(tx: Transaction, policy: Policy, actor: str, prefix: str, limit: int) -> UserPage:
    """Users with a live session whose names begin with ``prefix``, in order of name, out of those whom
    `Policy.list_users` lets ``actor`` find. If very many share a room with the actor, not all of them are found.
    """
    lists, letters = policy.list_users, len(prefix)
    if lists is ListUsers.ALL or (lists is ListUsers.PREFIX and letters >= LETTERS_TO_FIND_ANYBODY):
        found = await tx.sessions.online(prefix, limit + 1)
    else:
        found = await _find_companions(tx, actor, prefix, limit + 1)
    return UserPage(tuple(found[:limit]), more=len(found) > limit)


async def _find_companions(tx: Transaction, actor: str, prefix: str, limit: int) -> Sequence[str]:
    """Those who share a room with ``actor`` and are online, and ``actor``. The smallest rooms are read first."""
    memberships = (await tx.members.of([actor])).get(actor, ())
    rooms = sorted((membership.room for membership in memberships), key=lambda room: room.member_count)
    found = set(await tx.members.names(rooms, prefix, each=limit, limit=MAX_COMPANIONS))
    if actor.startswith(prefix):
        found.add(actor)
    return await tx.sessions.online_among(sorted(found), limit)
