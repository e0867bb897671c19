"""Tokens are long, safe in a URL, and never the same."""

from __future__ import annotations

import itertools
import re

import pytest

from gateway.tokens import BATCH_SIZE, tokens

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("size", [12, 15, 24])
def test_tokens_are_unique(size: int) -> None:
    """Each has as many characters as its bytes take, over more than one request to the system."""
    made = list(itertools.islice(tokens(size), 3 * BATCH_SIZE))
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(rf"[A-Za-z0-9_-]{{{size // 3 * 4}}}", token) for token in made)


def test_a_size_that_is_not_a_multiple_of_three_bytes_is_refused() -> None:
    """Tokens are slices of one long base64 text, which needs a whole number of four-character units."""
    with pytest.raises(ValueError, match="three bytes"):
        next(tokens(16))
