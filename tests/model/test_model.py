"""Engines against their model: whatever is played, results, events, order and replay are what the contract says.

The suite plays for a few seconds. ``MODEL=full pytest -n0 tests/model`` plays for ten minutes, and ``MODEL_SEED=…``
plays one game again.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.conftest import POLICY, sqlite_store
from gateway.engines.base import Policy
from gateway.rules.store import Store
from model.moves import Moves
from model.play import Play

SECONDS = 600.0 if os.environ.get("MODEL") == "full" else 8.0
STEPS = 200
"""Steps of one game."""

CreateEngine = Callable[[Path, Policy, Play], Store]


def create_sqlite(folder: Path, policy: Policy, play: Play) -> Store:
    return sqlite_store(folder / "gateway.db", policy, clock=play.clock, monotonic=play.monotonic)


ENGINES: dict[str, CreateEngine] = {"sqlite": create_sqlite}


async def play_game(create: CreateEngine, folder: Path, policy: Policy, seed: int) -> None:
    """Raises `Violation`."""
    play = Play(folder, policy, create, seed)
    await play.start()
    moves = Moves(play)
    try:
        for _ in range(STEPS):
            await moves.play()
    finally:
        await play.close()


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_behaves_like_its_model(engine: str, tmp_path: Path) -> None:
    """Random games until the time is over; what fails names its seed."""
    if seed := os.environ.get("MODEL_SEED"):
        await play_game(ENGINES[engine], tmp_path, POLICY, int(seed))
        return
    end = time.monotonic() + SECONDS
    for game in itertools.count():
        await play_game(ENGINES[engine], tmp_path / str(game), POLICY, random.randrange(1_000_000))  # noqa: S311 (no secret)
        if time.monotonic() > end:
            break
