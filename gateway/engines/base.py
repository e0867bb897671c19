"""The contract of every engine: what it stores, in which order, and what it publishes.

An engine runs **rules** (`gateway.rules`), which decide what happens, and stores what they write. Its guarantees:

1. **Committed first.** When a call returns, its effects survive ``kill -9`` of the gateway (SQLite: fsynced;
   memory: nothing survives). Subscribers receive an effect after its commit and before the call that caused it
   returns.
2. **One order.** Every subscriber receives all effects in the order of their commits. Two effects in one room are
   received in the same order everywhere. (What a rule has read may be newer than what the subscribers of its node have
   received, if other nodes wrote it.)
3. **All or nothing.** A call that raises has changed nothing; after `Unconfirmed`, which an engine with a server may
   raise, either all of it was done or nothing.
4. **Checked where it is decided.** What a rule has read still holds when what it writes is committed: two clients that
   race cannot both win.
5. **Each client in its order.** The calls for one client (a username), including those about its session, take effect
   in the order in which they were made, even if one has not returned when the next is made. Between clients, the engine
   decides: it serves them in turn, and those that have used more of its time later. (A call that is retried counts from
   the retry. A call that is cancelled before the engine runs it changes nothing; after that, it takes effect. What a
   client did on one node, and had no effect before its session moved to another, has none: it is `Unavailable`.)
6. **Temporary failures are `Unavailable`.** The engine recovers by itself when its disk or server does.

An **offset** is an opaque string that names a position in the order of the log, and the epoch that issued it: each
opening of a store begins one. So a store that was wiped, exchanged or restored from a backup is noticed: an offset of
an unknown epoch, or beyond the end of its epoch, recovers nothing.

**Many nodes** may share a store. A session is live on one of them. A `Publication` for a whole room goes to every node
that has a member of the room, one for recipients and a `Movement` to the nodes where these users have live sessions,
an `Attachment` to its node, and a `Detachment` to the node of the connection that it replaces. So an engine subscribes
its node to the rooms of the sessions that are live there. An engine that only one process can open has one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from gateway.engines.effects import Subscriber
    from gateway.engines.transaction import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message in the log. ``ts`` is Unix time in milliseconds; ``duplicate``: it had been sent before."""

    id: str
    ts: int
    duplicate: bool


class ListUsers(Enum):
    """Whom a user can find besides those in its own rooms: all, by a prefix of two letters, or nobody."""

    ALL = "all"
    PREFIX = "prefix"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits that rules and engines enforce. ``recovery_window``, ``reserve_names`` and ``decline_window`` are in
    seconds.

    ``max_rooms`` limits the rooms that a user created or opened and, separately, those that others added the user to.

    ``history_size`` and ``history_bytes``: how many messages of a room are kept, and how many bytes of them; the newest
    is always kept. ``replay_size``: the most bytes of events in a replay. ``commit_size``: how many bytes of events
    fill a batch, all of which one member may receive at once. ``max_store``: the size of the store, in bytes, above
    which nothing can be added (`LimitReached`); sessions still begin and end, and members leave.
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
"""Reads, decides and writes (see `gateway.engines.transaction`). An engine may run a rule several times and stores only
what the last run wrote, so a rule must change nothing but the transaction.
"""


class Durability(Enum):
    """What holds of a call that has returned."""

    DISK = "what was acked is on disk"
    SECOND = "a power cut of the server may lose what was acked in the last second"
    MEMORY = "what was acked is in memory, and is lost with the process that keeps it"
    UNKNOWN = "the server does not say whether what was acked is on its disk"


class Cluster(Protocol):
    """The nodes that share a store, as one of them sees it."""

    @property
    def node(self) -> str:
        """The id of this node. It changes if the node loses its lease."""

    @property
    def secret(self) -> bytes:
        """What all nodes know, and nobody else."""

    @property
    def host(self) -> str:
        """Where the store is: a host that all nodes reach."""

    def address_of(self, node: str) -> str | None:
        """What a node has announced; None if it is gone, or has announced nothing."""

    def now(self) -> float:
        """The time in seconds, by the clock of the store."""

    async def announce(self, address: str) -> None:
        """Tell the others where this node can be reached. Raises `Unavailable`."""

    def watch(self, gone: Callable[[str], None]) -> None:
        """Have ``gone`` called with the id of each node that is gone."""


class Engine(Protocol):
    """See the module's docstring for what each call guarantees. Any call may raise `Unavailable`."""

    async def open(self, subscriber: Subscriber) -> None:
        """Open the store. The sessions that were live on this node become suspended, and the recovery windows of those
        whose clients could not return meanwhile begin now.

        Raises:
            StoreError: it cannot be opened; the message says why and what to do.
        """

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109 - calls are rejected, not cancelled
        """Finish the calls under way and release the store, within ``timeout`` seconds. Does nothing if it is not open.

        Returns whether everything was stored. Calls that the store does not complete in time get `Unavailable`; what
        they write may or may not be stored.
        """

    def cluster(self) -> Cluster | None:
        """The other nodes; None where there is one only."""

    def durability(self) -> Durability:
        """What holds of a call that has returned. Of a server with replicas: unless one takes over that lacks the
        newest.
        """

    def problem(self) -> str | None:
        """Why the store cannot be written to now, as a phrase for the operator; None while it can."""

    def running_ms(self) -> int:
        """As `Transaction.running_ms`. What another node knows may differ a little (`CLOCKS_DIFFER`)."""

    async def run(self, client: str, rule: Rule[T], *, low_priority: bool = False) -> T:
        """Run ``rule`` in a transaction, commit it, and return what the rule returned. ``client`` is the username that
        it is run for, or `NOBODY`. With ``low_priority``, no client is waiting for it, and calls that clients wait for
        come first.

        Raises the `GatewayError` that the rule raises.
        """

    async def append_message(
        self, actor: str, room_names: Sequence[str], content: str, message_id: str | None
    ) -> Receipt:
        """Append a message and publish it, in the first of ``room_names`` (see `gateway.protocol.names.spellings`) that
        ``actor`` is a member of. The same ``message_id`` by the same member in the same room is appended once.

        This is nearly all of the traffic, so each engine implements in one step what could be a rule.

        Raises:
            RoomNotFound: ``actor`` is a member of no such room.
            LimitReached: the store is full.
        """


CLOCKS_DIFFER: Final = 10
"""By how many milliseconds the running times that two nodes know usually differ, at most."""

NOBODY = ""
"""The client of the gateway's own calls. No username is empty."""
