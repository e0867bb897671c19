"""What waits for the next report to the Socket.IO Admin UI."""

from __future__ import annotations

from typing import Any, Final

MAX_REPORTS: Final = 10_000
"""Reports that are kept; then the oldest are dropped. None is taken before the first client is there."""


class AdminQueue(list[Any]):
    """The list to which python-socketio appends who joined or left which room, with a limit."""

    def append(self, report: Any) -> None:
        if len(self) >= MAX_REPORTS:
            del self[0]
        super().append(report)
