"""The servers are for any application, with events of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def check_contract() -> None:
    """Replaces the fixture of all tests, which knows only the events of the gateway."""
