"""Which connections have a seat. What clients notice of it is in `tests/test_seats.py`."""

from __future__ import annotations

import pytest

from gateway.servers import Seats
from gateway.servers.seats import MAX_STANDING


def test_a_seat_belongs_to_one_connection() -> None:
    """It is taken once, whatever the number of calls, and is free when its connection leaves."""
    seats = Seats(2)
    assert [seats.take("a"), seats.take("a"), seats.take("b"), seats.take("c")] == [True, True, True, False]
    for _ in range(2):
        seats.leave("a")
    assert [seats.take("c"), seats.take("d")] == [True, False]
    seats.leave("never there")
    assert not seats.take("d")


def test_standing_room_has_its_own_limit() -> None:
    """It has a limit of its own; a standing connection can still get a seat, and then no longer counts as standing."""
    seats = Seats(1)
    seats.take_or_stand("seated")
    for number in range(MAX_STANDING):
        assert seats.has_room
        seats.take_or_stand(number)
    assert not seats.has_room
    seats.leave("seated")
    assert seats.take(0)
    assert seats.has_room
    assert not seats.take(1)


@pytest.mark.parametrize("count", [None, 0])
def test_seats_may_be_unlimited_or_none(count: int | None) -> None:
    seats = Seats(count)
    assert [seats.take(number) for number in range(3)] == [count is None] * 3
    assert seats.has_room
