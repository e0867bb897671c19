"""The model checker notices an engine that breaks its contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.conftest import POLICY
from gateway.rules.store import Store
from model.broken import BROKEN
from model.play import Violation
from model.test_model import create_sqlite, play_game

GAMES = 20
"""Games after which a broken engine has been noticed; mostly it is in the first."""


async def play_games(break_it: Callable[[Store], Any], folder: Path) -> None:
    for seed in range(GAMES):
        await play_game(lambda *arguments: break_it(create_sqlite(*arguments)), folder / str(seed), POLICY, seed)


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_engine_is_noticed(broken: str, tmp_path: Path) -> None:
    """Each breaks one promise of the contract."""
    with pytest.raises(Violation):
        await play_games(BROKEN[broken], tmp_path)
