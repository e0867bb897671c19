"""What is logged at the start because the operator may not be aware of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway.logs import get_logger
from gateway.options import unknown_variables

if TYPE_CHECKING:
    from gateway.config import Settings

LOST_WITH_THE_PROCESS = (
    "Sessions, rooms and messages are lost when this process ends. Keep them in a file with --store sqlite:///PATH."
)

LOST_WITH_THE_DYNO = (
    "A dyno's disk is wiped at every restart, at least once a day, and sessions, rooms and messages are lost with it. "
    "They persist in a Valkey or Redis server (--store redis://…, or REDIS_URL), "
    "or on a platform with a volume (--store sqlite:///PATH)."
)

DYNOS_APART = (
    "Heroku's dynos cannot reach each other, except in a Private Space. With several of them, clients on long-polling, "
    "which is where stock clients begin, need session affinity; or use --transports websocket."
)

ONE_PROCESS = "Only one process can use a SQLite store. Several can share a Valkey or Redis server (--store redis://…)."

WEBSOCKET_ONLY = (
    "Socket.IO clients must not begin with long-polling, their default: io(url, {transports: ['websocket']}). "
    "Nodes need not reach each other."
)

logger = get_logger(__name__)


def advise(settings: Settings) -> None:
    """Log it, once for all workers."""
    for name, meant in unknown_variables():
        logger.warning("unknown environment variable", name=name, **({"did_you_mean": meant} if meant else {}))
    if settings.store == "sqlite://":
        logger.warning("the store is in memory", store=settings.store, advice=LOST_WITH_THE_PROCESS)
    elif "DYNO" in os.environ and settings.store.startswith("sqlite:"):
        logger.warning("the disk is ephemeral", store=settings.store, advice=LOST_WITH_THE_DYNO)
    elif "DYNO" in os.environ and settings.transports != "websocket":
        logger.info("dynos may not reach each other", transports=settings.transports, advice=DYNOS_APART)
    suggested = os.environ.get("WEB_CONCURRENCY", "").strip()
    if settings.workers == 1 and settings.store.startswith("sqlite:") and suggested not in {"", "1"}:
        logger.warning("WEB_CONCURRENCY is not used", workers=1, store=settings.store, advice=ONE_PROCESS)
    if settings.transports == "websocket":
        logger.info("long-polling is refused", transports=settings.transports, advice=WEBSOCKET_ONLY)
