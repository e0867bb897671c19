"""The code is clean, as far as tools can check it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WAITS = re.compile(r"\b(sleep|wait_for_timeout)\((?!0\))")  # sleep(0) is an iteration of the loop, and no time


@pytest.mark.parametrize(
    "command", ["ruff check", "ruff format --check", "mypy"], ids=lambda command: command.replace(" ", "-")
)
def test_ruff_and_mypy_report_nothing(command: str) -> None:
    """ruff and mypy --strict, with the settings in pyproject.toml."""
    result = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.fast
def test_every_sleep_says_what_it_waits_for() -> None:
    """A sleep in a test waits for an event, or it is a defect. One that must wait for time says so, on its line."""
    silent = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (ROOT / "tests").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if WAITS.search(line) and "#" not in line
    ]
    assert silent == []
