"""Fast tests must keep the rules that make them fast, and the time of each folder is reported."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.speed import BESIDE_OTHERS, FAST_TIMEOUT

MODULES = {
    "calm/test_one.py": "import pytest, time\n@pytest.mark.fast\ndef test_one(): time.sleep(0.3)  # its work\n",
    "calm/test_two.py": "import time\ndef test_two(): time.sleep(0.3)  # its work\n",
    "busy/test_many.py": "import pytest\n@pytest.mark.parametrize('number', range(5))\ndef test_many(number): pass\n",
}
"""A suite of seven tests in two folders, one of them fast."""

GATEWAY = "import pytest\n@pytest.fixture(scope='session')\ndef gateway(): pass\n"


def run(folder: Path, *options: str, **modules: str) -> tuple[int, str]:
    """Write modules, and run pytest on the folder; its exit status and what it printed."""
    for name, text in {**MODULES, **{f"{name}.py": text for name, text in modules.items()}}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "harness.speed", "-p", "no:cacheprovider", *options]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.fast
def test_a_fast_test_that_starts_a_process_fails() -> None:
    with pytest.raises(AssertionError, match=r"a fast test starts no process: .*true"):
        subprocess.run(["true"], check=True)


@pytest.mark.fast
async def test_a_fast_test_that_starts_a_process_with_asyncio_fails() -> None:
    with pytest.raises(AssertionError, match=r"a fast test starts no process: .*true"):
        await asyncio.create_subprocess_exec("true")


@pytest.mark.fast
def test_a_fast_test_has_a_shorter_timeout_than_others(request: pytest.FixtureRequest) -> None:
    (seconds,) = request.node.get_closest_marker("timeout").args
    is_alone = request.config.option.markexpr == "fast"
    assert seconds == (FAST_TIMEOUT if is_alone else FAST_TIMEOUT * BESIDE_OTHERS)


def test_others_may_start_processes() -> None:
    subprocess.run(["true"], check=True)


def test_the_time_of_each_folder_is_reported(tmp_path: Path) -> None:
    """The sum of its tests', in however many processes they ran; the longest comes first."""
    status, output = run(tmp_path, "-n", "2")
    assert status == 0, output
    rows = re.findall(r"^ +(\d+\.\d) s +(\d+) tests  (\w+)$", output, re.MULTILINE)
    assert [(tests, folder) for _, tests, folder in rows] == [("2", "calm"), ("5", "busy")], output
    assert 0.6 <= float(rows[0][0]) < 10
    assert float(rows[1][0]) < float(rows[0][0])


def test_modules_without_the_mark_are_not_imported(tmp_path: Path) -> None:
    """Where fast tests alone are wanted, and there alone."""
    broken = {"test_broken": "raise RuntimeError('imported')\n"}
    status, output = run(tmp_path, "-m", "fast", "-n", "0", **broken)
    assert (status, "1 passed" in output) == (0, True), output
    status, output = run(tmp_path, "-n", "0", **broken)
    assert (status, "RuntimeError: imported" in output) == (2, True), output


def test_a_parameter_that_starts_a_process_takes_a_test_out_of_the_fast_ones(tmp_path: Path) -> None:
    """Of a module of fast tests, those with the parameter run with all others."""
    marked = "pytest.param('true', marks=pytest.mark.process)"
    module = f"""import pytest, subprocess
pytestmark = pytest.mark.fast
@pytest.mark.parametrize('command', [None, {marked}])
def test_run(command): command is None or subprocess.run([command], check=True)
"""
    status, output = run(tmp_path, "-m", "fast", "-n", "0", "test_run.py", test_run=module)
    assert (status, "1 passed, 1 deselected" in output) == (0, True), output
    status, output = run(tmp_path, "-n", "0", "test_run.py", test_run=module)
    assert (status, "2 passed" in output) == (0, True), output


def test_a_fast_test_cannot_have_a_fixture_that_starts_a_process(tmp_path: Path) -> None:
    """It is an error before any test is run: whether the process is there already must not matter."""
    talks = "import pytest\n@pytest.mark.fast\ndef test_talks(gateway): pass\n"
    status, output = run(tmp_path, "-n", "0", conftest=GATEWAY, test_talks=talks)
    assert (status, "test_talks is marked fast, and starts a process: gateway" in output) == (4, True), output
