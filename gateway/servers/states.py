"""States that change as a table says."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

State = TypeVar("State", bound=Enum)


def change(changes: Mapping[State, set[State]], before: State, after: State) -> State:
    """``after``, if it may follow ``before``.

    Raises:
        RuntimeError: it may not; that is a bug.
    """
    if after not in changes[before]:
        raise RuntimeError(f"{type(before).__name__} does not change from {before.name} to {after.name}")
    return after
