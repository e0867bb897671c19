"""Calling an application's handlers, once each, with as many arguments as they take."""

from __future__ import annotations

import asyncio
import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def call_handler(event: str, handler: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What ``handler``, a function or a coroutine function, returns; None where it was cancelled.

    One of the older kind takes no auth at ``connect``, or no reason at ``disconnect``. The libraries learn that by
    calling it again after any TypeError, which runs half of it twice and hides a mistake of its own.
    """
    droppable = event == "disconnect" or (event == "connect" and arguments[-1] is None)
    if droppable and not _takes(handler, len(arguments)):
        arguments = arguments[:-1]
    if not inspect.iscoroutinefunction(handler):
        return handler(*arguments)
    try:
        return await handler(*arguments)
    except asyncio.CancelledError:
        return None


def _takes(handler: Callable[..., Any], count: int) -> bool:
    """Whether a handler can be called with so many arguments."""
    return _routine_takes(handler, count) if inspect.isroutine(handler) else _can_bind(handler, count)


def _can_bind(handler: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(handler).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # some that are built in do not say
        return True
    return True


_routine_takes = lru_cache(maxsize=1024)(_can_bind)
"""Remembered for functions and methods, which are always the same; another callable may not be hashable."""
