"""Writing records (`gateway.engines.dump`) into an empty store.

::

    nothing ── import_begin ──▶ importing ── import_end ──▶ a store
       ▲                            │
       └── it failed: all deleted ──┤
                                    └── it was killed: no node can use it; the next import deletes all, and begins anew

What is written is collected, and a script runs it if the lock is still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from redis.exceptions import ResponseError

from gateway.engines import dump
from gateway.engines.transaction import SessionRecord
from gateway.engines.valkey.address import Address
from gateway.engines.valkey.link import LinkLostError
from gateway.engines.valkey.records import LONG_AGO, encode_session, session_key
from gateway.engines.valkey.scripts import script
from gateway.engines.valkey.visit import scan, visit
from gateway.errors import StoreError
from gateway.events import ROOM_JOINED

if TYPE_CHECKING:
    from types import TracebackType

    from gateway.engines.valkey.link import Argument, Link

LOCK_TIME: Final = 10.0
"""For how long an importer may write nothing, in seconds, before another may begin."""

ASK_AGAIN: Final = 0.5
"""Seconds between two attempts to get the lock."""

COMMANDS_AT_ONCE: Final = 256
CHARACTERS_AT_ONCE: Final = 262_144
"""When what was collected is written. The server does nothing else meanwhile, for a few milliseconds."""


@dataclass(slots=True)
class Stream:
    """What was put of one kind of events of a room; its fields are those of a state in ``scripts/log.lua``."""

    position: int = 0
    author: str = ""
    count: int = 0
    size: int = 0
    other: int = 0
    ts: int = 0

    def state(self) -> str:
        return f"{self.position} {self.count} {self.size} {self.other} {self.ts} {self.author}"


@dataclass(slots=True)
class Log:
    """What was put of the log of a room. ``sent``: author, position and time of each message id, in JSON."""

    room: int
    last: int = 0
    streams: dict[str, Stream] = field(default_factory=dict)
    sent: dict[bytes, list[tuple[str, int, int]]] = field(default_factory=dict)

    def add(self, event: dump.Event) -> tuple[str, Stream]:
        """Returns the kind of the event, and what was put of it, with this event."""
        kind = "m" if event.is_message else "n"
        stream = self.streams.setdefault(kind, Stream())
        stream.position, stream.author, stream.other = event.position, event.author, event.other
        stream.count += 1
        stream.size += len(event.body)
        self.last = event.position
        if event.is_message:
            stream.ts = event.ts()
            if event.message_id is not None:
                self.note_sent(event.message_id, event.author, event.position, stream.ts)
        return kind, stream

    def note_sent(self, message_id: str, author: str, position: int, ts: int) -> bytes:
        name = orjson.dumps(message_id)
        self.sent.setdefault(name, []).append((author, position, ts))
        return name

    def fields(self) -> list[Argument]:
        """Of the room's hash."""
        fields: list[Argument] = ["last", self.last]
        for kind, stream in self.streams.items():
            fields += [kind, stream.state()]
        return fields


class ValkeyImporter:
    """An `Importer`."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._token = secrets.token_hex(8)
        self._is_finished = False
        self._start = dump.Start(0, 0, ())
        self._log: Log | None = None
        """Of the room whose events are being put."""
        self._commands: list[list[str]] = []
        self._size = 0
        self._link: Link

    # --- an `Importer`

    async def __aenter__(self) -> Self:
        self._link = await visit(self._address)
        try:
            await self._begin()
        except BaseException:
            await self._link.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_finished:
            with contextlib.suppress(StoreError):  # then the next import deletes it
                self._commands.clear()
                await self._delete_all()
                self._write("DEL", self._address.meta)
                self._write("DEL", self._address.key("importer"))
                await self._flush()
        await self._link.close()

    async def put(self, record: dump.Record) -> None:
        if not isinstance(record, dump.Event | dump.TrimmedMessage):
            self._end_room()
        self._put(record)
        if len(self._commands) >= COMMANDS_AT_ONCE or self._size >= CHARACTERS_AT_ONCE:
            await self._flush()

    async def finish(self) -> None:
        self._end_room()
        await self._flush()
        if not await self._run("import_end", self._start.newest, self._start.running_ms):
            raise self._lost()
        self._is_finished = True

    # --- the lock

    async def _begin(self) -> None:
        attempts = int(LOCK_TIME / ASK_AGAIN) + 1
        for _ in range(attempts):  # the lock of an importer that was killed ends by itself
            state = await self._run("import_begin", int(LOCK_TIME * 1000))
            if state != b"busy":
                break
            await asyncio.sleep(ASK_AGAIN)
        if state == b"busy":
            raise StoreError(f"Another migration is writing into the store {self._address.shown}.")
        if state == b"used":
            raise StoreError(
                f"The store {self._address.shown} is not empty (prefix {self._address.prefix}); "
                "name another server, or another prefix: ?prefix=NAME."
            )
        if state == b"interrupted":
            await self._delete_all()

    async def _delete_all(self) -> None:
        """Delete all but what marks an import."""
        kept = {self._address.meta.encode(), self._address.key("importer").encode()}
        try:
            async for keys in scan(self._link, "SCAN", pattern=self._address.pattern()):
                for key in keys:
                    if key not in kept:
                        self._write("UNLINK", key)
                await self._flush()
        except (LinkLostError, ResponseError) as error:
            raise self._unwritable(error) from None

    async def _run(self, name: str, *arguments: Argument) -> Any:
        try:
            return await self._link.run(script(name), 1, self._address.meta, 0, self._token, *arguments)
        except (LinkLostError, ResponseError) as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(f"The store {self._address.shown} cannot be written: {error}.")

    def _lost(self) -> StoreError:
        return StoreError(f"Another migration has begun to write into the store {self._address.shown}.")

    # --- writing

    def _write(self, *command: Argument) -> None:
        words = [word.decode() if isinstance(word, bytes) else str(word) for word in command]
        self._commands.append(words)
        self._size += sum(map(len, words))

    async def _flush(self) -> None:
        commands, self._commands, self._size = self._commands, [], 0
        if not await self._run("import_write", int(LOCK_TIME * 1000), orjson.dumps(commands)):
            raise self._lost()

    @property
    def _version(self) -> int:
        """Of rooms and users: a commit gives them later ones."""
        return self._start.newest

    def _put(self, record: dump.Record) -> None:
        match record:
            case dump.Event():
                self._put_event(record)
            case dump.TrimmedMessage():
                self._put_trimmed_message(record)
            case dump.Start():
                self._put_start(record)
            case dump.Room():
                self._put_room(record)
            case dump.Session():
                self._put_session(record)
            case dump.Member():
                self._put_member(record)
            case dump.Departure(place, username, left_at):
                self._write("ZADD", self._address.key("departures", username), left_at, place)

    def _put_start(self, start: dump.Start) -> None:
        self._start = start
        for name, first in start.epochs:
            self._write("RPUSH", self._address.key("epochs"), name, first)

    def _put_room(self, room: dump.Room) -> None:
        record = room.record
        self._log = Log(record.id)
        values: dict[str, Argument] = {
            "v": self._version,
            "name": record.name,
            "kind": record.kind,
            "history": record.history,
            "count": record.member_count,
        }
        if record.pair is not None:
            values["pair"] = record.pair
            self._write("HSET", self._address.key("pairs"), record.pair, record.id)
        for kind, trimmed in (("m", room.messages), ("n", room.notices)):
            if trimmed is not None:
                values[f"{kind}t"] = f"{trimmed.position} 0 0 {trimmed.other} 0 {trimmed.author or ''}"
        self._write("HSET", self._address.key("names"), record.name, record.id)
        self._write("HSET", self._address.key("room", record.id), *(word for pair in values.items() for word in pair))

    def _put_event(self, event: dump.Event) -> None:
        log = self._open_log()
        previous = log.last
        kind, stream = log.add(event)
        fields: dict[str, Argument] = {
            "a": event.author,
            "b": event.body,
            "k": f"{previous} {stream.count} {stream.size} {stream.other}",
        }
        if not event.is_message:
            fields["e"] = event.event
        if event.message_id is not None:
            fields["i"] = orjson.dumps(event.message_id)
        words = (word for pair in fields.items() for word in pair)
        self._write("XADD", self._address.key(f"log{kind}", event.room), f"{event.position}-0", *words)

    def _put_trimmed_message(self, message: dump.TrimmedMessage) -> None:
        name = self._open_log().note_sent(message.message_id, message.author, message.position, message.ts)
        self._write("ZADD", self._address.key("trimmed ids", message.room), message.trimmed_at, name)

    def _open_log(self) -> Log:
        if self._log is None:
            raise ValueError("an event follows its room")
        return self._log

    def _end_room(self) -> None:
        """All events of the room were put."""
        if self._log is None:
            return
        log, self._log = self._log, None
        for name, sent in log.sent.items():
            in_order = sorted(sent, key=lambda by: by[1])
            self._write("HSET", self._address.key("sent ids", log.room), name, orjson.dumps(in_order))
        if log.last:
            self._write("HSET", self._address.key("room", log.room), *log.fields())

    def _put_session(self, session: dump.Session) -> None:
        since = self._start.running_ms if session.resumable else LONG_AGO
        record = SessionRecord(
            session.sid,
            session.username,
            session.pid_hash,
            session.previous_pid_hash,
            None,
            since,
            session.resumable,
            session.began,
            session.missed_by_leaving,
        )
        user = self._address.key("user", session.username)
        self._write("HSET", user, f"s{session.sid}", encode_session(record), "v", self._version)
        self._write("ZADD", self._address.key("suspended"), since, session_key(record))

    def _put_member(self, member: dump.Member) -> None:
        invited = member.invitation is not None
        place = orjson.dumps([member.joined, invited, member.peer])
        user = self._address.key("user", member.username)
        self._write("HSET", user, f"m{member.room}", place, "v", self._version)
        self._write("ZADD", self._address.key("members", member.room), 0, member.username)
        if member.invitation is not None:
            body = b"%d %b\n%b" % (member.joined, ROOM_JOINED.encode(), member.invitation)
            self._write("HSET", self._address.key("invitations", member.room), member.username, body)
