"""The servers are for any application, with events of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def kept_contract() -> None:
    """Takes the place of the fixture for all tests, which knows the gateway's events alone."""
