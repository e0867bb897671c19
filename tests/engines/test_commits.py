"""Group commit: what one operation does to the others in its group."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from gateway.engines.base import Publication
from gateway.engines.sqlite.commits import GATHERING, SLICE, GroupCommit
from gateway.errors import RoomNotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    LogCapture = list[MutableMapping[str, Any]]


@pytest.fixture(name="log")
def _log() -> Iterator[LogCapture]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def said(log: LogCapture) -> list[str]:
    """The events that were logged."""
    return [entry["event"] for entry in log]


class Ledger:
    """A database of one list. It can be told to fail, and to wait."""

    def __init__(self) -> None:
        self.effects: list[Any] = []
        self.committed: list[list[str]] = []
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()
        self._pending: list[str] = []

    def begin(self) -> None:
        self._pending = []
        self.effects = []

    def flush(self) -> bool:
        return bool(self._pending)

    def commit(self) -> None:
        self.gate.wait()
        if self.fails and self._pending:
            raise sqlite3.OperationalError("database or disk is full")
        self.committed.append(self._pending)

    def rollback(self) -> None:
        self._pending = []

    def take_effects(self) -> list[Any]:
        effects, self.effects = self.effects, []
        return effects

    def is_full(self) -> bool:
        return len(self._pending) >= 5_000

    def close(self) -> None:
        pass

    def write(self, word: str) -> str:
        self._pending.append(word)
        self.effects.append(Publication(word, b"{}", "room"))
        return word


def write(word: str) -> Callable[[Ledger], str]:
    return lambda ledger: ledger.write(word)


def refuse(ledger: Ledger) -> None:
    raise RoomNotFound("tea")


def stumble(ledger: Ledger) -> None:
    ledger.write("half")
    raise ZeroDivisionError


class Setup:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.heard: list[str] = []
        self.commits = GroupCommit(self.ledger, self._hear, max_pending=100)

    def _hear(self, effects: list[Any]) -> None:
        self.heard += [effect.event for effect in effects]

    async def _run(self, operation: Callable[[Ledger], Any]) -> Any:
        return await self.commits.run(operation, "alice")

    async def gather(self, *operations: Callable[[Ledger], Any]) -> list[Any]:
        """Run operations in one group: a first one keeps the thread busy until all of them wait."""
        self.ledger.gate.clear()
        first = asyncio.ensure_future(self.commits.run(write("first"), "alice"))
        await asyncio.sleep(0)
        running = [asyncio.ensure_future(self._run(operation)) for operation in operations]
        await asyncio.sleep(0)
        self.ledger.gate.set()
        await asyncio.gather(first, return_exceptions=True)
        return await asyncio.gather(*running, return_exceptions=True)


async def test_operations_that_wait_are_committed_together_and_heard_in_order() -> None:
    setup = Setup()
    assert await setup.gather(*(write(str(number)) for number in range(50))) == [str(n) for n in range(50)]
    assert len(setup.ledger.committed) <= 3
    assert setup.heard == ["first", *(str(number) for number in range(50))]
    await setup.commits.close()


async def test_what_comes_turn_by_turn_is_committed_together() -> None:
    """A busy loop brings some in each of its turns."""
    setup = Setup()
    running = []
    for number in range(20):
        running.append(setup.commits.run(write(str(number)), "alice"))
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    assert len(setup.ledger.committed) <= 2
    await setup.commits.close()


async def test_no_group_waits_for_ever() -> None:
    """Not even where every turn of the loop brings more."""
    ledger = Ledger()
    commits = GroupCommit(ledger, lambda effects: None)
    running = []
    end = time.perf_counter() + 10 * GATHERING
    while time.perf_counter() < end:
        running.append(commits.run(write("more"), "alice"))
        await asyncio.sleep(0)
    assert len(ledger.committed) >= 3
    await asyncio.gather(*running)
    await commits.close()


async def test_a_refusal_leaves_the_rest_of_its_group_alone() -> None:
    setup = Setup()
    results = await setup.gather(write("a"), refuse, write("b"))
    assert (results[0], results[2]) == ("a", "b")
    assert isinstance(results[1], RoomNotFound)
    await setup.commits.close()


async def test_an_operation_that_breaks_leaves_nothing_behind_and_the_others_alone(
    log: LogCapture,
) -> None:
    setup = Setup()
    results = await setup.gather(write("a"), stumble, write("b"))
    assert (results[0], results[2]) == ("a", "b")
    assert isinstance(results[1], Unavailable)
    assert sorted(word for group in setup.ledger.committed for word in group) == ["a", "b", "first"]
    assert "half" not in setup.heard
    assert "an operation of the store failed" in said(log)
    await setup.commits.close()


async def test_a_disk_that_fails_is_unavailable_until_it_works_again(log: LogCapture) -> None:
    setup = Setup()
    setup.ledger.fails = True
    results = await setup.gather(write("a"), write("b"))
    assert all(isinstance(result, Unavailable) for result in results)
    assert setup.heard == []
    await setup.commits.run(lambda ledger: None, "alice")
    assert "the store works again" not in said(log)
    setup.ledger.fails = False
    assert await setup.commits.run(write("c"), "alice") == "c"
    assert setup.heard == ["c"]
    assert said(log).count("the store fails") == 1
    assert said(log).count("the store works again") == 1
    await setup.commits.close()


async def test_long_operations_leave_others_their_turn() -> None:
    """Whatever waits is run in slices: what else the loop has to do is not put off behind all of it."""
    commits, turns = GroupCommit(Ledger(), lambda effect: None), 0

    def count() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    loop.call_soon(count)
    for operation in (lambda ledger: time.sleep(SLICE), lambda ledger: time.sleep(SLICE) or ledger.write("x")):
        before = turns
        await asyncio.gather(*(commits.run(operation, "alice") for _ in range(10)))
        assert turns - before >= 10
    await commits.close()


async def test_so_many_operations_wait_and_no_more() -> None:
    setup = Setup()
    results = await setup.gather(*(write(str(number)) for number in range(150)))
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert 40 <= len(refused) <= 60
    await setup.commits.close()


async def test_closing_finishes_what_waits_and_takes_nothing_more() -> None:
    setup = Setup()
    running = [asyncio.ensure_future(setup.commits.run(write(str(number)), "alice")) for number in range(10)]
    await asyncio.sleep(0)
    await setup.commits.close()
    assert await asyncio.gather(*running) == [str(number) for number in range(10)]
    with pytest.raises(Unavailable):
        await setup.commits.run(write("late"), "alice")
    await setup.commits.close()


async def test_a_subscriber_that_breaks_keeps_nobody_waiting(log: LogCapture) -> None:
    def stumble_over(effect: object) -> None:
        raise ZeroDivisionError

    commits = GroupCommit(Ledger(), stumble_over)
    assert await commits.run(write("a"), "alice") == "a"
    assert "the effects of a commit could not be delivered" in said(log)
    await commits.close()
