"""Token buckets: how often something may be done, on any number of connections."""

from __future__ import annotations

import pytest

from gateway.access.buckets import MIN_PRUNE_SIZE, Buckets, TokenBucket

pytestmark = pytest.mark.fast


def test_a_bucket_returns_how_long_to_wait() -> None:
    """After that time, and not before, there is enough; more than it holds is as much as it holds."""
    bucket = TokenBucket(2.0, 10.0, now=100.0)
    assert bucket.take(100.0, 8) == 0
    assert bucket.take(100.0, 4) == 1.0
    assert bucket.take(100.5, 4) == 0.5
    assert bucket.take(101.0, 4) == 0
    assert bucket.take(101.0, 1000) == 5.0
    assert not bucket.is_full(105.5)
    assert bucket.take(106.0, 1000) == 0


def test_full_buckets_are_forgotten() -> None:
    """However many names there are; those that have something to wait for stay."""
    now = 0.0
    buckets = Buckets(1.0, 10.0, clock=lambda: now)
    assert buckets.take("busy", 10) == 0
    for number in range(100 * MIN_PRUNE_SIZE):
        now += 0.01
        assert buckets.take(f"u{number}", 1) == 0
        if number % 100 == 0:
            buckets.take("busy", 1)
    assert buckets.take("busy", 10) > 9
    assert len(buckets) < 3 * MIN_PRUNE_SIZE
