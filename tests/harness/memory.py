"""The memory of the test's own process: what a server in it keeps of its clients."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def tracing() -> Iterator[None]:
    """`traced` counts from now on, and what is only garbage stays: Python's collector comes rarely to what is old."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def traced() -> int:
    """Bytes that this process, the server's and the client's, has allocated while it traces them."""
    return tracemalloc.get_traced_memory()[0]
