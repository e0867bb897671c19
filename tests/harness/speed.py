"""How long tests take: what a fast test may do, and the time of each folder.

A module of fast tests says so, ``pytestmark = pytest.mark.fast``; in other modules a test can, with the mark as a
decorator. ``pytest -m fast`` runs them all in less than 20 seconds on two cores. A parameter with which a test starts a
process has the mark ``process``: with that parameter the test is not fast.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

MARK: Final = b"pytest.mark.fast"

FAST_TIMEOUT: Final = 5.0
"""Seconds after which a fast test has failed, with ``-m fast``. On an idle machine none takes two."""

BESIDE_OTHERS: Final = 4
"""How many times as long it may take in a run of all tests, which keep every processor busy."""

SHARED_PROCESSES: Final = frozenset({"gateway", "driver", "browser", "valkey"})
"""Fixtures that start a process once, for many tests."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fast: starts no process and takes next to no time (harness/speed.py)")
    config.addinivalue_line("markers", "process: not fast, whatever its module says (harness/speed.py)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m fast``, modules without the mark are not even imported: that takes as long as all fast tests."""
    if config.option.markexpr != "fast" or collection_path.is_dir() or MARK in collection_path.read_bytes():
        return None
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give fast tests their timeout. Raises UsageError where one has a fixture that starts a process."""
    seconds = FAST_TIMEOUT * BESIDE_OTHERS
    if config.option.markexpr == "fast":
        seconds = FAST_TIMEOUT
        config.hook.pytest_deselected(items=[item for item in items if not is_fast(item)])
        items[:] = filter(is_fast, items)
    for item in items:
        if is_fast(item):
            if processes := SHARED_PROCESSES.intersection(getattr(item, "fixturenames", ())):
                raise pytest.UsageError(f"{item.nodeid} is marked fast, and starts a process: {min(processes)}")
            item.add_marker(pytest.mark.timeout(seconds))


def is_fast(item: pytest.Item) -> bool:
    return item.get_closest_marker("fast") is not None and item.get_closest_marker("process") is None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """A fast test that starts a process fails where it does."""
    if not is_fast(item):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", _refuse)
        return (yield)


def _refuse(process: object, arguments: object, *_: object, **__: object) -> NoReturn:
    raise AssertionError(f"a fast test starts no process: {arguments}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How long the tests of each folder took together, in seconds, and how many there are."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            folder = _folder_of(report)
            seconds[folder] += report.duration
            tests[folder] += report.when == "call"
    if seconds:
        terminalreporter.section("time of each folder")
        for folder, time in seconds.most_common():
            terminalreporter.write_line(f"{time:7.1f} s  {tests[folder]:5d} tests  {folder}")


def _folder_of(report: pytest.TestReport) -> str:
    return Path(report.nodeid.partition("::")[0]).parent.as_posix()
