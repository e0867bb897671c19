"""The model checker notices an engine that breaks its contract."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engines.conftest import POLICY
from gateway.rules.store import Store
from model.broken import BROKEN
from model.play import Violation
from model.storage import SQLiteFiles
from model.test_model import play_game

GAMES = 20
"""Games after which a broken engine has been noticed; mostly it is in the first."""


class BrokenFiles(SQLiteFiles):
    def __init__(self, break_it: Callable[[Store], Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._break = break_it

    async def create(self) -> Any:
        return self._break(await super().create())


async def play_games(break_it: Callable[[Store], Any], folder: Path) -> None:
    for seed in range(GAMES):
        await play_game(partial(BrokenFiles, break_it), folder / str(seed), POLICY, seed)


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_engine_is_noticed(broken: str, tmp_path: Path) -> None:
    """Each breaks one promise of the contract."""
    with pytest.raises(Violation):
        await play_games(BROKEN[broken], tmp_path)
