"""Serving, which is what ``gateway`` does by itself: run until a signal says stop."""

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
from gateway.streams import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Settings
    from gateway.listening import Listening

SWITCH_INTERVAL = 0.000_5
"""Seconds for which the store's thread waits for the interpreter, each of the many times that it needs it, while
messages are read without a pause; by default ten times as many, and ten times as long until an ack.
"""

GC_THRESHOLDS = (5_000, 10, 1_000)
"""What a turn of the loop makes and drops again is not to be taken for garbage: by default, 700 new objects start a
search, and at 10,000 connections a search through all lasts longer than any client should wait. It is due after 50
million.
"""

LOST_WITH_THE_PROCESS = (
    "Sessions, rooms and messages are in memory, and end with this process. They last with --store sqlite:///PATH."
)

LOST_WITH_THE_DYNO = (
    "A dyno's disk is wiped at each restart, at least once a day, and sessions, rooms and messages go with it. "
    "They last in a Redis store (--store redis://…, or REDIS_URL), which a later version has, "
    "or on a platform with a volume (--store sqlite:///PATH)."
)

EXIT_INCOMPLETE = 3
"""The exit status of a stop that did not do all that it should have; the log says what."""

logger = logs.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Run the gateway until a signal says stop.

    Raises:
        click.ClickException: it cannot start, and why.
    """
    signals = Signals()
    logs.configure(settings.log_level, settings.log_format)
    openfiles.raise_limit()
    _warn(settings)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what is here now stays: it need not be looked through again and again
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if not runner.run(_serve(settings, signals)):
            # A thread may hang, and hold what the interpreter would wait for at its end.
            logs.end_process(EXIT_INCOMPLETE)


def _warn(settings: Settings) -> None:
    """Say what the person who starts the gateway may not know."""
    for name, meant in unknown_variables():
        logger.warning("an unknown environment variable", name=name, **({"did_you_mean": meant} if meant else {}))
    if settings.store == "sqlite://":
        logger.warning("nothing lasts", store=settings.store, advice=LOST_WITH_THE_PROCESS)
    elif "DYNO" in os.environ:
        logger.warning("the disk does not last", store=settings.store, advice=LOST_WITH_THE_DYNO)


async def _serve(settings: Settings, signals: Signals) -> bool:
    """Serve, and stop; whether the stop was complete."""
    gateway = Gateway(settings)
    stopping = signals.wait(EXIT_INCOMPLETE)
    try:
        listening = await gateway.start()
    except (StoreError, ListenError) as error:
        raise click.ClickException(str(error)) from None
    try:
        say(_ready(listening))
        await stopping.wait()
    finally:
        complete = await gateway.stop()
    return complete


def _ready(listening: Listening) -> str:
    """What to open, and what is listened on where that is something else."""
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
