"""Attacks, and the table of what they have measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.process import allow_many_files
from hostile.attack import Attack, Attacker, Environment, PlainAttacker, SocketIOAttacker
from hostile.scale import FULL, SCALE, STOCK

StartAttack = Callable[..., Awaitable[Attack]]
Kind = Callable[[str], SocketIOAttacker | PlainAttacker]
COLUMNS = ("p99", "p99 beside", "peak", "left", "tracebacks")


class Environments:
    """Starts what the attacks need, and keeps it for the next one if that needs the same."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._key: tuple[str, dict[str, Any]] | None = None
        self._environment: Environment | None = None

    async def take(self, kind: str, settings: dict[str, Any]) -> Environment:
        if self._environment is None or self._key != (kind, settings):
            await self.clear()
            self._key = (kind, settings)
            self._environment = Environment(kind, self._folders.mktemp("environment"), settings)
            await self._environment.__aenter__()
        return self._environment

    async def clear(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            await environment.__aexit__()


@pytest.fixture(autouse=True)
def check_contract() -> None:
    """Takes the place of the fixture for all tests: some targets are other applications, with events of their own."""


@pytest.fixture(scope="session")
async def environments(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Environments]:
    allow_many_files()
    environments = Environments(tmp_path_factory)
    yield environments
    await environments.clear()


@pytest.fixture
async def start_attack(
    environments: Environments, record_property: Callable[[str, object], None]
) -> AsyncIterator[StartAttack]:
    """Starts an attack, which ends with the test. ``memory``, ``left``: see `Attack`; ``kind``: see `Target`; further
    options are the gateway's. Its store is on disk, so that what is kept is not taken for what is left over.
    """
    attacks: list[Attack] = []
    try:
        async with AsyncExitStack() as stack:

            async def start(
                *, kind: str = "gateway", memory: float = 2.0, left: float = SCALE.left, **settings: Any
            ) -> Attack:
                attack = Attack(await environments.take(kind, settings), memory=memory, left=left)
                attacks.append(attack)
                return await stack.enter_async_context(attack)

            yield start
    finally:
        for attack in attacks:
            record_property("hostile", {**attack.facts, "problems": attack.problems})
        if SCALE is FULL or any(attack.problems for attack in attacks):
            await environments.clear()


@pytest.fixture(params=[SocketIOAttacker, PlainAttacker], ids=["socketio", "plain"])
def attacker(request: pytest.FixtureRequest) -> Callable[[str], Attacker]:
    """Attackers on each wire."""
    kind: Callable[[str], Attacker] = request.param
    return kind


def pytest_configure(config: pytest.Config) -> None:
    """Where a minute ends inside hypothesis, pytest cannot show the source: its own traceback breaks on it."""
    if STOCK:
        config.option.tbstyle = "native"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The full size takes its time; and of the stock servers nothing is expected, within a minute each."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(60 if STOCK else SCALE.timeout))
            if STOCK:
                item.add_marker(pytest.mark.xfail(strict=False, reason="the stock servers are measured, not judged"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A table of what was measured, in Markdown."""
    stats = terminalreporter.stats.values()
    reports = [report for kind in stats for report in kind if isinstance(report, pytest.TestReport)]
    reasons = {report.nodeid: _why(report) for report in reports if report.when == "call"}
    rows = [
        _row(report.nodeid, dict(report.user_properties)["hostile"], reasons.get(report.nodeid, ""))
        for report in reports
        if "hostile" in dict(report.user_properties) and report.when == "teardown"
    ]
    if rows:
        terminalreporter.section(f"what was measured ({'the stock servers' if STOCK else 'ours'})")
        for line in (("attack", *COLUMNS, "besides"), ("---",) * (len(COLUMNS) + 2), *sorted(rows)):
            terminalreporter.write_line(f"| {' | '.join(line)} |")


def _why(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return "" if crash is None else f"**{crash.message.splitlines()[0][:300]}**"


def _row(nodeid: str, facts: dict[str, Any], failure: str) -> tuple[str, ...]:
    problems = "; ".join(facts.pop("problems"))
    besides = [f"{name}: {value}" for name, value in facts.items() if name not in COLUMNS]
    notes = [*besides, failure, problems.replace("\n", " ")[:300]]
    title = nodeid.rsplit("::", maxsplit=1)[-1].removeprefix("test_").replace("_", " ")
    return (title, *(facts.get(name, "") for name in COLUMNS), "; ".join(filter(None, notes)).replace("|", "\\|"))
