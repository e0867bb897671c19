"""Running the gateway until a signal stops it: what ``gateway`` does without a subcommand."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING

import click

from gateway import logs, openfiles
from gateway.app import Gateway
from gateway.errors import StoreError
from gateway.listening import ListenError
from gateway.options import unknown_variables
from gateway.signals import Signals
from gateway.streams import print_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Settings
    from gateway.listening import Listening

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

LOST_WITH_THE_PROCESS = (
    "Sessions, rooms and messages are lost when this process ends. Keep them in a file with --store sqlite:///PATH."
)

LOST_WITH_THE_DYNO = (
    "A dyno's disk is wiped at every restart, at least once a day, and sessions, rooms and messages are lost with it. "
    "They persist in a Valkey or Redis server (--store redis://…, or REDIS_URL), "
    "or on a platform with a volume (--store sqlite:///PATH)."
)

EXIT_INCOMPLETE = 3
"""The exit status of an incomplete shutdown; the log has the reason."""

logger = logs.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Run the gateway until a signal stops it.

    Raises:
        click.ClickException: it cannot start; the message says why.
    """
    signals = Signals()
    logs.configure(settings.log_level, settings.log_format)
    openfiles.raise_limit()
    _warn(settings)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what exists now lives as long as the process, and need not be searched for garbage
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if not runner.run(_serve(settings, signals)):
            # A thread may hang, and a normal exit of the interpreter would wait for it.
            logs.end_process(EXIT_INCOMPLETE)


def _warn(settings: Settings) -> None:
    """Log what the operator may not be aware of."""
    for name, meant in unknown_variables():
        logger.warning("unknown environment variable", name=name, **({"did_you_mean": meant} if meant else {}))
    if settings.store == "sqlite://":
        logger.warning("the store is in memory", store=settings.store, advice=LOST_WITH_THE_PROCESS)
    elif "DYNO" in os.environ and settings.store.startswith("sqlite:"):
        logger.warning("the disk is ephemeral", store=settings.store, advice=LOST_WITH_THE_DYNO)


async def _serve(settings: Settings, signals: Signals) -> bool:
    """Serve until a signal. Returns whether the shutdown was complete."""
    stopping = signals.wait(EXIT_INCOMPLETE)
    try:
        gateway = Gateway(settings)
        listening = await gateway.start()
    except (StoreError, ListenError) as error:
        raise click.ClickException(str(error)) from None
    try:
        print_line(_ready_line(listening))
        await stopping.wait()
    finally:
        complete = await gateway.stop()
    return complete


def _ready_line(listening: Listening) -> str:
    """The line that says which URL to open, and the addresses listened on if they differ from it."""
    addresses = " and ".join(listening.addresses)
    if listening.url is None:
        return f"Gateway ready: listening on {addresses}"
    more = "" if listening.url.startswith(f"http://{addresses}/") else f" (listening on {addresses})"
    return f"Gateway ready: open {listening.url}{more}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it exists (not on Windows), else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    return uvloop.new_event_loop
