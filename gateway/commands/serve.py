"""Serving, which is what ``gateway`` does by itself: run until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from gateway import logs
from gateway.app import Gateway
from gateway.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Settings

SWITCH_INTERVAL = 0.000_5
"""Seconds for which the store's thread waits for the interpreter, each of the many times that it needs it, while
messages are read without a pause; by default ten times as many, and ten times as long until an ack.
"""

GC_THRESHOLDS = (5_000, 10, 1_000)
"""What a turn of the loop makes and drops again is not to be taken for garbage: by default, 700 new objects start a
search, and at 10,000 connections a search through all lasts longer than any client should wait. It is due after 50
million.
"""

LOST_WITH_THE_DYNO = (
    "A dyno's disk is wiped at each restart, at least once a day, and sessions, rooms and messages go with it. "
    "They last in a Redis store (--store redis://…, or REDIS_URL), which a later version has, "
    "or on a platform with a volume (--store sqlite:///PATH)."
)

logger = logs.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Run the gateway until SIGTERM or SIGINT.

    Raises:
        click.ClickException: it cannot start, and why.
    """
    logs.configure(settings.log_level, settings.log_format)
    _raise_file_limit()
    if "DYNO" in os.environ and settings.store != "sqlite://":
        logger.warning("the disk does not last", store=settings.store, advice=LOST_WITH_THE_DYNO)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what is here now stays: it need not be looked through again and again
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)
    stopping = _stop_signal()
    try:
        url = await gateway.start()
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; "
            "choose another address with --host and --port."
        ) from None
    try:
        with contextlib.suppress(BrokenPipeError):
            print(f"Gateway ready: open {url}", flush=True)  # noqa: T201 - for the person who started it
        await stopping.wait()
    finally:
        await gateway.stop()


def _stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stop)
    return stopping


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it exists (not on Windows), else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    """Every connection is a file: take as many as the system allows (the usual soft limit is 1,024)."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
