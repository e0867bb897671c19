"""``gateway migrate SOURCE TARGET``: move a store to another place, or from SQLite to a server and back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.addresses import without_password
from gateway.config import StoreURL
from gateway.engines import dump
from gateway.engines.sqlite.exporter import SQLiteExporter
from gateway.engines.sqlite.importer import SQLiteImporter
from gateway.errors import StoreError
from gateway.memory import machine_memory
from gateway.workers.valkey import PrivateServerError, PrivateValkey, existing_folder, folder_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from gateway.engines.dump import Exporter, Importer, Record

HELP = """Copy the store SOURCE into TARGET, which must be empty: sqlite:///PATH or redis://HOST, in either direction.

Stop the gateway first. Sessions, rooms, history and offsets are all in the copy, so that clients recover as after a
restart: start the gateway with --store TARGET. SOURCE is not changed; never let clients use it again.

If it fails, TARGET is empty. If it is killed, a gateway refuses TARGET (a file is empty), and the command can be
run again.
"""

PROGRESS_INTERVAL: Final = 2.0
"""Seconds between two lines of progress."""

RECORDS_AT_ONCE: Final = 256
"""After how many records a signal is handled."""


@click.command(
    "migrate",
    help=HELP,
    short_help="Copy the store into another one: a file, or a Valkey or Redis server.",
    params=[
        click.Argument(["source"], type=StoreURL()),
        click.Argument(["target"], type=StoreURL()),
        click.Option(
            ["--for-workers"], is_flag=True, help="TARGET, a sqlite:///PATH, is for several workers: a folder at PATH."
        ),
    ],
)
def command(source: str, target: str, *, for_workers: bool) -> None:
    if "sqlite://" in {source, target}:
        raise click.UsageError("sqlite:// is a store in memory, which nothing can be copied from or into.")
    if for_workers and not target.startswith("sqlite:"):
        raise click.UsageError("--for-workers is for sqlite:///PATH; any number of workers can use a server.")
    try:
        with _served(source) as source_url, _served(target, for_workers=for_workers) as target_url:
            progress = asyncio.run(_until_signal(migrate(source_url, target_url)))
    except (StoreError, PrivateServerError) as error:
        raise click.ClickException(str(error)) from None
    print(f"{without_password(target)}: {progress.summary()}")  # noqa: T201 - what a command does


async def migrate(source: str, target: str) -> Progress:
    """Copy one store into another; both are URLs. Raises StoreError."""
    progress, counter = Progress(), itertools.count()
    if source == target or _is_same_file(source, target):
        raise StoreError("The source and the target are the same store.")
    async with exporter_for(source) as exporter, importer_for(target) as importer:
        async for record in exporter.records():
            await importer.put(record)
            progress.note(record)
            if next(counter) % RECORDS_AT_ONCE == 0:
                await asyncio.sleep(0)  # Ctrl-C is handled here: two files do not wait for anything
        await importer.finish()
    return progress


class Progress:
    """How much was copied; now and then a line on stderr says so."""

    def __init__(self) -> None:
        self._rooms = self._events = self._sessions = 0
        self._next = time.monotonic() + PROGRESS_INTERVAL

    def note(self, record: Record) -> None:
        match record:
            case dump.Event():
                self._events += 1
            case dump.Room():
                self._rooms += 1
            case dump.Session():
                self._sessions += 1
        if time.monotonic() > self._next:
            self._next = time.monotonic() + PROGRESS_INTERVAL
            print(f"gateway migrate: {self.summary()} so far", file=sys.stderr)  # noqa: T201 - what a command does

    def summary(self) -> str:
        return f"{self._rooms:,} rooms, {self._events:,} events, {self._sessions:,} sessions"


def exporter_for(url: str) -> Exporter:
    if url.startswith("sqlite:"):
        return SQLiteExporter(_path(url))
    try:
        from gateway.engines.valkey.exporter import ValkeyExporter  # noqa: PLC0415 - redis-py is an extra
    except ModuleNotFoundError:
        raise StoreError.needs_redis() from None
    return ValkeyExporter(url)


def importer_for(url: str) -> Importer:
    if url.startswith("sqlite:"):
        return SQLiteImporter(_path(url))
    try:
        from gateway.engines.valkey.importer import ValkeyImporter  # noqa: PLC0415 - redis-py is an extra
    except ModuleNotFoundError:
        raise StoreError.needs_redis() from None
    return ValkeyImporter(url)


def _path(url: str) -> str:
    return url.removeprefix("sqlite://").removeprefix("/")


def _is_same_file(source: str, target: str) -> bool:
    if not (source.startswith("sqlite:") and target.startswith("sqlite:")):
        return False
    return os.path.realpath(_path(source)) == os.path.realpath(_path(target))


@contextmanager
def _served(url: str, *, for_workers: bool = False) -> Iterator[str]:
    """The URL; or that of the private server whose folder is meant, which runs meanwhile (`PrivateValkey`).

    Raises:
        PrivateServerError: it cannot be used.
    """
    path = _path(url)
    folder = existing_folder(path) if url.startswith("sqlite:") else None
    if folder is None and for_workers:
        if os.path.exists(path):
            raise PrivateServerError(f"There is a SQLite store at {path}; choose a new path for that of the workers.")
        folder = folder_of(path)
    if folder is None:
        yield url
        return
    server = PrivateValkey(folder, machine_memory())
    try:
        with server.serving():
            yield server.url
    finally:
        server.release()


async def _until_signal(migration: Coroutine[Any, Any, Progress]) -> Progress:
    """Cancel a migration at SIGTERM or SIGINT, so that it removes what it has written, and exit."""
    task = asyncio.ensure_future(migration)
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            sys.exit(128 + received[0])
        raise
