"""Judges what clients saw against what was sent and acked, in the spirit of Jepsen.

A `History` records everything as it happens, and each room's log as members read it in the end; `judge` says
what of it breaks the promises of `docs/protocol.md`, and `evidence` what a client went through. It takes offsets for
what they are to clients, opaque names: the order of a room is that of its log, and all that anybody received must agree
with it.

Members stay in their rooms; a visitor has a `Visit` for each stay.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

T = TypeVar("T", bound="Hashable")


class Key(NamedTuple):
    """What makes two sends the same message, however often it was tried."""

    room: str
    sender: str
    id: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a client sees it, live, replayed or in history."""

    room: str
    sender: str
    id: str
    content: str = field(repr=False)
    ts: int
    offset: str | None

    @classmethod
    def of(cls, fields: dict[str, Any], offset: str | None = None) -> Self:
        """From the fields of an event, or of a message of history, which has its offset among them."""
        offset = offset if offset is not None else fields.get("offset")
        return cls(fields["room"], fields["from"], fields["id"], fields["content"], fields["ts"], offset)

    @property
    def key(self) -> Key:
        return Key(self.room, self.sender, self.id)


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise. `kind` is one word for it."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.where}): {self.what}"


@dataclass(slots=True)
class _Attempt:
    """One message of a sender: when it was first sent, and when its first ack came, in ticks of the history."""

    content: str
    sent: int
    acked: int | None = None
    ts: int | None = None


@dataclass(slots=True, eq=False)
class Visit:
    """A stay in a room during the disturbances, in ticks of the history.

    What was acked before it was `asked` for, or sent after it was `over`, is not received in it. What was sent after it
    has surely `begun` and acked before the client was `seen` to be up to date is.
    """

    client: str
    room: str
    asked: int
    begun: int | None = None
    seen: int = -1
    over: int | None = None
    received: list[list[Key]] = field(default_factory=lambda: [[]])
    fetched: set[Key] = field(default_factory=set)


class History:
    """What happened, in the order in which the test learned of it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._clock = itertools.count()
        self._members: dict[str, list[str]] = defaultdict(list)
        self._attempts: dict[Key, _Attempt] = {}
        self._stretches: dict[str, list[list[Message]]] = defaultdict(lambda: [[]])
        self._refetched: dict[str, list[Message]] = defaultdict(list)
        self._claims: dict[str, set[Message]] = defaultdict(set)
        """The messages that visitors of a room received."""
        self._logs: dict[str, list[tuple[str, list[Message]]]] = defaultdict(list)
        self._noted: list[Violation] = []
        self._visits: dict[tuple[str, str], list[Visit]] = defaultdict(list)
        self._keys: dict[str, Key] = {}
        """Which message each content is, for those who receive nothing else of it."""
        self._known: dict[Message, Message] = {}
        """One object for what many receive."""
        self._trails: dict[str, list[str | Message]] = defaultdict(list)
        self.deliveries = 0

    # --- what happens

    def tick(self) -> int:
        """Now."""
        return next(self._clock)

    def joined(self, client: str, room: str) -> None:
        """`client` is a member of `room`, and nothing was said there before."""
        self._members[room].append(client)

    def sent(self, client: str, room: str, id_: str, content: str) -> None:
        """A send begins. A retry with the same id changes nothing."""
        key = self._keys[content] = Key(room, client, id_)
        self._attempts.setdefault(key, _Attempt(content, self.tick()))

    def acked(self, client: str, room: str, id_: str, ts: int) -> None:
        attempt = self._attempts[Key(room, client, id_)]
        if attempt.acked is None:
            attempt.acked, attempt.ts = self.tick(), ts
        elif attempt.ts != ts:
            self.note("reacked", client, f"{room} {id_}: {attempt.ts}, then {ts}")

    def welcomed(self, client: str, rooms: Iterable[str], *, recovered: bool) -> None:
        """`client` is back, in these rooms. Where it is not `recovered`, there may be a gap before what follows."""
        visits = [stays[-1] for (visitor, _), stays in self._visits.items() if visitor == client]
        if not recovered:
            self._stretches[client].append([])
            for visit in visits:
                visit.received.append([])
        expected = {room for room, members in self._members.items() if client in members}
        if not expected <= set(rooms) <= expected | {visit.room for visit in visits}:
            self.note("expelled", client, f"is in {sorted(rooms)} instead of {sorted(expected)}")

    def received(self, client: str, message: Message) -> None:
        """The gateway sent a message by itself: live, or as one that was missed."""
        self.deliveries += 1
        message = self._known.setdefault(message, message)
        self._trails[client].append(message)
        if visit := self._visit(client, message.room):
            visit.received[-1].append(message.key)
            self._claims[message.room].add(message)
        else:
            self._stretches[client][-1].append(message)

    def received_content(self, client: str, content: str) -> None:
        """The gateway sent a message by itself, and nothing of it but its content."""
        self.deliveries += 1
        key = self._keys.get(content)
        visit = self._visit(client, key.room) if key is not None else None
        if key is None or visit is None:
            self.note("invented", client, f"received {content[:100]!r}")
        else:
            self.trace(client, f"received {key}")
            visit.received[-1].append(key)

    def refetched(self, client: str, messages: Iterable[Message]) -> None:
        """A page of history that `client` asked for because it was not recovered."""
        for message in messages:
            if visit := self._visit(client, message.room):
                visit.fetched.add(message.key)
                self._claims[message.room].add(message)
            else:
                self._refetched[client].append(self._known.setdefault(message, message))

    def visit(self, client: str, room: str) -> Visit:
        """`client` asks somebody to bring it into a room."""
        visit = Visit(client, room, self.tick())
        self._visits[client, room].append(visit)
        self.trace(client, f"asks to visit {room}")
        return visit

    def _visit(self, client: str, room: str) -> Visit | None:
        stays = self._visits.get((client, room))
        return stays[-1] if stays else None

    def log(self, client: str, room: str, messages: Iterable[Message]) -> None:
        """The whole history of a room, read by `client` when all is over."""
        self._logs[room].append((client, list(messages)))

    def note(self, kind: str, where: str, what: str) -> None:
        """A violation that shows by itself."""
        self._noted.append(Violation(kind, where, what))

    def trace(self, client: str, what: str) -> None:
        """Something that may explain a violation later."""
        self._trails[client].append(f"{time.monotonic() - self._began:9.3f} {what}")

    def evidence(self, client: str) -> str:
        """All that `client` went through: a line for each event, and for each run of messages in a room."""
        lines = []
        for room, run in itertools.groupby(self._trails[client], lambda entry: getattr(entry, "room", None)):
            if room is None:
                lines += [str(entry) for entry in run]
            else:
                positions = [str(entry.offset).rpartition("-")[2] for entry in run if isinstance(entry, Message)]
                lines.append(f"          received {room} {' '.join(positions)}")
        return "\n".join(lines)

    @property
    def counts(self) -> dict[str, int]:
        return {
            "sent": len(self._attempts),
            "acked": sum(attempt.acked is not None for attempt in self._attempts.values()),
            "received": self.deliveries,
            "refetched": sum(map(len, self._refetched.values())),
            "visits": sum(visit.begun is not None for stays in self._visits.values() for visit in stays),
            "unrecovered": sum(len(parts) - 1 for parts in self._stretches.values()),
        }

    # --- judgement

    def judge(self) -> list[Violation]:
        """Every broken promise."""
        found = list(self._noted)
        for room in self._members:
            found += self._judge_room(room)
        for client in {*self._stretches, *self._refetched}:
            seen = itertools.chain(*self._stretches[client], self._refetched[client])
            for message in seen:
                if client not in self._members.get(message.room, ()):
                    found.append(
                        Violation("invented", client, f"is no member of {message.room}, and received {message}")
                    )
        return found

    def _judge_room(self, room: str) -> Iterator[Violation]:
        if not self._logs[room]:
            yield Violation("unread", room, "nobody has read its log")
            return
        (reader, log), *others = self._logs[room]
        for other, theirs in others:
            if theirs != log:
                yield Violation("disagreed", room, f"{reader} and {other} read {_difference(log, theirs)}")
        yield from self._judge_log(room, log)
        for member in self._members[room]:
            for kind, what in self._judge_member(member, room, log):
                yield Violation(kind, f"{member} in {room}", what)
        for message in self._claims[room].difference(log):
            yield Violation("vanished", room, f"received or fetched by a visitor, and not so in the log: {message}")
        for visit in itertools.chain(*(stays for (_, where), stays in self._visits.items() if where == room)):
            for kind, what in self._judge_visit(visit, log):
                yield Violation(kind, f"{visit.client} on a visit in {room}", what)

    def _judge_log(self, room: str, log: list[Message]) -> Iterator[Violation]:
        yield from (Violation("doubled", room, f"{key} is in the log twice") for key in _repeated(m.key for m in log))
        yield from (Violation("doubled", room, f"offset {o} is used twice") for o in _repeated(m.offset for m in log))
        latest = -1
        for message in log:
            attempt = self._attempts.get(message.key)
            if attempt is None or attempt.content != message.content:
                yield Violation("invented", room, f"nobody sent {message}")
                continue
            if attempt.acked is not None:
                if attempt.ts != message.ts:
                    yield Violation("reacked", room, f"acked as of {attempt.ts}: {message}")
                if attempt.acked < latest:
                    yield Violation("swapped", room, f"acked before one was sent that is before it: {message}")
            latest = max(latest, attempt.sent)
        kept = {message.key for message in log}
        for key, attempt in self._attempts.items():
            if key.room == room and attempt.acked is not None and key not in kept:
                yield Violation("lost", room, f"acked, and not in the log: {key}")

    def _judge_member(self, member: str, room: str, log: list[Message]) -> Iterator[tuple[str, str]]:
        wanted = [message for message in log if message.sender != member]
        place = {message: index for index, message in enumerate(wanted)}
        stretches = [[message for message in part if message.room == room] for part in self._stretches[member]]
        received = list(itertools.chain(*stretches))
        yield from (("doubled", f"received twice: {message}") for message in _repeated(received))
        for message in received:
            if message.key not in self._attempts:
                yield "invented", f"nobody sent {message}"
            elif message not in place:
                yield "vanished", f"received, and not so in the log: {message}"
        refetched = [message for message in self._refetched[member] if message.room == room]
        known = set(log)
        yield from (
            ("vanished", f"fetched, and not so in the log: {message}") for message in refetched if message not in known
        )
        yield from _judge_order(stretches, place, wanted, whole=True)
        seen = {*received, *refetched}
        yield from (("lost", f"never seen: {message}") for message in wanted if message not in seen)

    def _judge_visit(self, visit: Visit, log: list[Message]) -> Iterator[tuple[str, str]]:
        wanted = [message for message in log if message.sender != visit.client]
        place = {message.key: index for index, message in enumerate(wanted)}
        received = list(itertools.chain(*visit.received))
        yield from (("doubled", f"received twice: {key}") for key in _repeated(received))
        yield from (("vanished", f"received, and not in the log: {key}") for key in received if key not in place)
        yield from _judge_order(visit.received, place, wanted, whole=False)
        for key in place.keys() & received:
            attempt = self._attempts[key]
            if attempt.acked is not None and attempt.acked < visit.asked:
                yield "early", f"acked before the visit was asked for: {key}"
            if visit.over is not None and attempt.sent > visit.over:
                yield "late", f"sent after the visit was over: {key}"
        if visit.begun is None:
            return
        for key in place.keys() - received - visit.fetched:
            attempt = self._attempts[key]
            if attempt.acked is not None and visit.begun < attempt.sent and attempt.acked < visit.seen:
                yield "lost", f"never seen: {key}"


def _judge_order(
    stretches: list[list[T]], place: dict[T, int], wanted: list[Message], *, whole: bool
) -> Iterator[tuple[str, str]]:
    """What is received is in the order of the log, and without a gap as long as the client was told that there is none:
    from the first message to the last where it received the `whole` log.
    """
    previous = -1
    for number, part in enumerate(stretches):
        places = [place[message] for message in part if message in place]
        for index, at in enumerate(places):
            if at < previous:
                yield "swapped", f"{wanted[at]} was received after {wanted[previous]}"
            elif at > previous + 1 and (index > 0 or (whole and number == 0)):
                yield "gap", f"{at - previous - 1} before {wanted[at]} were not received, and the client was not told"
            previous = max(previous, at)
        is_last = whole and number == len(stretches) - 1
        if is_last and (places or number == 0) and previous + 1 < len(wanted):
            yield "gap", f"the last {len(wanted) - previous - 1} were not received, from {wanted[previous + 1]} on"


def _repeated(items: Iterable[Any]) -> list[Any]:
    seen: set[Any] = set()
    return [item for item in items if item in seen or seen.add(item)]  # type: ignore[func-returns-value]


def _difference(one: list[Message], other: list[Message]) -> str:
    for mine, theirs in itertools.zip_longest(one, other):
        if mine != theirs:
            return f"{mine} and {theirs} in one place"
    return "the same"
