"""Structured logs on stderr: an event with key=value pairs, or one JSON object per line. Logging never blocks.

Rules for log lines: none per message; never the content of a message, a ``pid`` or a token.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import structlog

from gateway.streams import QueuedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import EventDict

DRAIN_TIMEOUT = 1.0
"""How long the process waits for queued log lines to be written when it ends, in seconds."""

FORCED_DRAIN_TIMEOUT = 0.5
"""The same if the shutdown has missed its deadline already."""


def configure(level: str, log_format: str, worker: int | None = None) -> None:
    """Write the gateway's own events and the libraries' warnings to stderr in one format; as a worker, with its number.
    From now on, writes to `sys.stderr` do not block.
    """
    formatter = _formatter(log_format, {} if worker is None else {"worker": worker})
    stream = QueuedStream(2, _dropped_line(formatter))
    atexit.register(stream.drain, DRAIN_TIMEOUT)
    sys.stderr = stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gateway").setLevel(level.upper())
    # The Socket.IO libraries log every packet, with its content, at INFO, and every mistake of a client as a warning.
    logging.getLogger("gateway.socketio").setLevel(logging.ERROR)


def end_process(status: int) -> NoReturn:
    """End the process at once: write queued log lines, but do not wait for threads that hang."""
    stream = sys.stderr
    if isinstance(stream, QueuedStream):
        stream.drain(FORCED_DRAIN_TIMEOUT)
    os._exit(status)


def _dropped_line(formatter: logging.Formatter) -> Callable[[int], str]:
    def line(lines: int) -> str:
        extra = {"lines": lines, "advice": "Nothing read stderr, or the disk that it is written to was full."}
        logger = logging.getLogger(__name__)
        record = logger.makeRecord(
            __name__, logging.WARNING, __file__, 0, "log lines were dropped", (), None, extra=extra
        )
        return f"{formatter.format(record)}\n"

    return line


def _formatter(log_format: str, fields: Mapping[str, object]) -> logging.Formatter:
    """``fields`` are part of each line."""

    def add_fields(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {**event, **fields}

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        add_fields,
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
        shared.append(structlog.processors.format_exc_info)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: ``get_logger(__name__)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
