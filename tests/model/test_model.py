"""Engines against their model: whatever is played, results, events, order and replay are what the contract says.

The suite plays for a few seconds. ``MODEL=full pytest -n0 tests/model`` plays for ten minutes, and ``MODEL_SEED=…``
plays one game again.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path

import pytest

from engines.conftest import POLICY
from gateway.engines.base import Policy
from model.moves import Moves
from model.play import CreateStorage, Play
from model.storage import SQLiteFiles, ValkeyFolder

SECONDS = 600.0 if os.environ.get("MODEL") == "full" else 8.0
STEPS = 200
"""Steps of one game."""

LATE = 10.0
"""Seconds after which a game is over where time passes by itself: `Moves.wait` allows for less than 20."""

STORES: dict[str, CreateStorage] = {"sqlite": SQLiteFiles, "valkey": ValkeyFolder}


async def play_game(create: CreateStorage, folder: Path, policy: Policy, seed: int) -> None:
    """Raises `Violation`."""
    play = Play(folder, policy, create, seed)
    await play.start()
    moves = Moves(play)
    try:
        for _ in range(STEPS):
            await moves.play()
            if play.storage.ahead() > LATE:
                break
    finally:
        await play.close()


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("store", STORES)
async def test_an_engine_behaves_like_its_model(store: str, tmp_path: Path) -> None:
    """Random games until the time is over; what fails names its seed."""
    if seed := os.environ.get("MODEL_SEED"):
        await play_game(STORES[store], tmp_path, POLICY, int(seed))
        return
    end = time.monotonic() + SECONDS
    for game in itertools.count():
        await play_game(STORES[store], tmp_path / str(game), POLICY, random.randrange(1_000_000))  # noqa: S311 (no secret)
        if time.monotonic() > end:
            break
