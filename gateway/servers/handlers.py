"""Calling an application's handlers: once, with as many arguments as they take."""

from __future__ import annotations

import asyncio
import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def call_handler(event: str, handler: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What ``handler``, a function or a coroutine function, returns; None where it was cancelled.

    Older handlers take no auth at ``connect``, or no reason at ``disconnect``. The libraries find that out by calling
    them again after any TypeError, which may run half of them twice and hides errors of their own.
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
    """Whether a handler can be called with ``count`` arguments."""
    return _routine_takes(handler, count) if inspect.isroutine(handler) else _can_bind(handler, count)


def _can_bind(handler: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(handler).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True


_routine_takes = lru_cache(maxsize=1024)(_can_bind)
"""Cached for functions and methods, whose signature does not change; another callable may not be hashable."""
