"""The contract of every engine: what it keeps, in which order, and what it publishes.

An engine runs **rules** (`gateway.rules`), which decide, and keeps what they write. What an `Engine` guarantees:

1. **Committed first.** When a call returns, its effects survive ``kill -9`` of the gateway (SQLite: fsynced;
   memory: nothing is kept). Subscribers receive an effect after its commit and before the call that caused it
   returns.
2. **One order.** Every subscriber receives all effects in the order of their commits. Two effects in one room are
   received in the same order everywhere.
3. **All or nothing.** A call that raises has changed nothing.
4. **Checked where it is decided.** What a rule has read still holds when what it writes is committed: two clients that
   race cannot both win.
5. **Each client in its order.** The calls for one client (a username), those about its session among them, take
   effect in the order in which they were begun, also where one is not done when the next is begun. The calls for two
   clients take effect in the order in which the engine takes them up: in turn, and later for those who have used it
   more. (A call that failed and is made again comes when it is made again. One that is cancelled before it is taken up
   changes nothing; one that is cancelled later takes effect.)
6. **Temporary failures are `Unavailable`.** The engine works again by itself when its disk or server does.

An **offset** is an opaque string that names a position in the order of the log, and the epoch that gave it out: each
opening of a store begins one. So a store that was wiped, exchanged or put back from a backup is noticed: an offset of
an epoch that it does not know, or beyond the end of its epoch, recovers nothing.

**Many nodes** may share a store. A session is live on one of them. A `Publication` for a whole room goes to every node
that has a member of the room, one for recipients and a `Movement` to the nodes where these users have live sessions,
and an `Attachment` to its node and to the node that it replaces the connection on. So an engine subscribes its node to
the rooms of the sessions that are live there. An engine that only one process can open has one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from gateway.engines.effects import Subscriber
    from gateway.engines.transaction import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message in the log. ``ts`` is Unix time in milliseconds; ``duplicate``: the log had it before, by its
    ``id``.
    """

    id: str
    ts: int
    duplicate: bool


class ListUsers(Enum):
    """Whom a user finds: everybody; those with whom it shares a room, and others by the first two letters of their
    names; or no others.
    """

    ALL = "all"
    PREFIX = "prefix"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits that rules and engines keep. ``recovery_window``, ``reserve_names`` and ``decline_window`` are in
    seconds.

    ``max_rooms`` counts the rooms that a user made or opened, and separately those that others put the user into.

    ``history_size`` and ``history_bytes``: how many messages of a room are kept, and how many bytes of them; the newest
    is always kept. ``replay_size``: bytes of events in a replay, at most. ``commit_size``: bytes of events at which a
    commit takes up nothing more: a member may receive all of them at once. ``max_store``: bytes of the store beyond
    which nothing is added (`LimitReached`); sessions begin and end, and members leave, all the same.
    """

    max_rooms: int
    max_members: int
    history_size: int
    history_bytes: int
    presence_limit: int
    recovery_window: float
    reserve_names: float
    decline_window: float
    list_users: ListUsers
    replay_size: int
    commit_size: int
    max_store: int = 2**63


Rule: TypeAlias = "Callable[[Transaction], Coroutine[Any, Any, T]]"
"""Decides and writes (see `gateway.engines.transaction`). An engine may run it several times, and keeps what the last
run wrote: it changes nothing but the transaction.
"""


class Engine(Protocol):
    """See the module's docstring for what each call guarantees. Any call may raise `Unavailable`."""

    async def open(self, subscriber: Subscriber) -> None:
        """Open the store. The sessions that were live on this node are suspended from now on, and the recovery windows
        of those who could not come back meanwhile begin now.

        Raises:
            StoreError: it cannot be opened; the message says why and what to do.
        """

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - the store is given up, not the task that waits
        """Finish the calls under way and release the store. Does nothing where the store is not open.

        Takes ``timeout`` seconds at most. Returns whether everything that waited is kept: what the store did not answer
        for in time may be kept or not, and its callers get `Unavailable`.
        """

    def problem(self) -> str | None:
        """Why the store cannot be written to now, in a few words for the operator; None while it can."""

    async def run(self, client: str, rule: Rule[T], *, low_priority: bool = False) -> T:
        """Run ``rule`` in a transaction and commit it; what the rule returned. ``client`` is the username that it is
        run for, or `NOBODY`. With ``low_priority``, no client waits for it, and it waits for those who do.

        Raises whatever error of the gateway the rule raises.
        """

    async def append_message(
        self, actor: str, room_names: Sequence[str], content: str, message_id: str | None
    ) -> Receipt:
        """Append a message and publish it, in the first of ``room_names`` (see `gateway.protocol.names.spellings`) that
        ``actor`` is a member of. The same ``message_id`` by the same member in the same room is appended once.

        Nearly all traffic is this: each engine has its own way to do in one step what would be a rule.

        Raises:
            RoomNotFound: ``actor`` is a member of no such room.
            LimitReached: the store is full.
        """


NOBODY = ""
"""The client that the gateway's own calls are for: no username is empty."""
