"""Serving clients in this process until a signal stops it: the whole gateway, or one of its workers."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING

import click

from gateway import logs, openfiles
from gateway.app import Gateway
from gateway.commands.advice import advise
from gateway.errors import StoreError
from gateway.listening import ListenError
from gateway.signals import EXIT_INCOMPLETE, Signals
from gateway.streams import print_line
from gateway.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Settings
    from gateway.workers.assignment import Assignment

SWITCH_INTERVAL = 0.000_5
"""How long a thread waits for the GIL before it asks the running one to release it, in seconds
(`sys.setswitchinterval`). The thread that commits needs the GIL several times per commit, while the event loop is busy
with messages. The default is ten times as long, and would make acks wait ten times as long under load.
"""

GC_THRESHOLDS = (5_000, 10, 1_000)
"""Thresholds of the garbage collector. By default, a collection starts after 700 new objects, fewer than one event-loop
iteration may create and drop. With 10,000 connections, a full collection takes longer than any client should wait; with
these thresholds it is due after 50 million objects.
"""


def serve(settings: Settings, assignment: Assignment | None = None) -> None:
    """Serve until a signal; with an ``assignment``, as a worker.

    Raises:
        click.ClickException: it cannot start; the message says why.
    """
    signals = Signals()
    logs.configure(settings.log_level, settings.log_format, None if assignment is None else assignment.number)
    openfiles.raise_limit()
    if assignment is None:
        advise(settings)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what exists now lives as long as the process, and need not be searched for garbage
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if not runner.run(_serve(settings, signals, assignment)):
            # A thread may hang, and a normal exit of the interpreter would wait for it.
            logs.end_process(EXIT_INCOMPLETE)


async def _serve(settings: Settings, signals: Signals, assignment: Assignment | None) -> bool:
    """Serve until a signal. Returns whether the shutdown was complete."""
    stopping = signals.wait(EXIT_INCOMPLETE)
    try:
        if assignment is None:
            gateway = Gateway(settings)
        else:
            gateway = Gateway(assignment.share_of(settings), listening=assignment.listening(settings))
        listening = await gateway.start()
    except (StoreError, ListenError) as error:
        raise click.ClickException(str(error)) from None
    tasks = TaskOwner()
    try:
        if assignment is None:
            print_line(listening.ready_line)
        else:
            tasks.start(assignment.report())
        await stopping.wait()
    finally:
        complete = await gateway.stop()
        await tasks.close(grace=0)
    return complete


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it exists (not on Windows), else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    return uvloop.new_event_loop
