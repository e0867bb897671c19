"""What the attacks are judged by."""

from __future__ import annotations

from hostile.siege import outside_pauses, p99

QUICK = 0.004
SLOW = 0.05


def every_5_ms(seconds: float, *, first: int = 0, count: int = 200) -> list[tuple[float, float]]:
    return [(number * 0.005, seconds) for number in range(first, first + count)]


def test_a_pause_of_the_machine_is_nobodys_fault() -> None:
    """Messages that were under way while the gateway beside was slow do not count; the others do."""
    paused = [(0.5, 0.1)]
    attacked = [*every_5_ms(QUICK, count=100), (0.52, 0.2), *every_5_ms(QUICK, first=120, count=100)]
    assert outside_pauses(attacked, [*every_5_ms(QUICK), *paused], SLOW) == [
        message for message in attacked if message[0] < 0.496 or message[0] > 0.6
    ]


def test_an_attack_is_no_pause() -> None:
    """What is slow on the attacked gateway alone counts; and so does all of it where the one beside is slow often."""
    attacked = every_5_ms(0.2)
    assert outside_pauses(attacked, every_5_ms(QUICK), SLOW) == attacked
    assert outside_pauses(attacked, every_5_ms(0.06), SLOW) == attacked
    assert p99(attacked) == 0.2
    assert p99([]) == float("inf")
