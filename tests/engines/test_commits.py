"""Batches of commits: what one operation does to the others in its batch."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from gateway.engines.effects import Publication
from gateway.engines.sqlite.commits import HANG_THRESHOLD, MAX_GATHER_TIME, MAX_RUN_TIME, GroupCommit
from gateway.errors import RoomNotFound, Unavailable
from gateway.observe import NullObserver
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    LogCapture = list[MutableMapping[str, Any]]


@pytest.fixture(name="log")
def _log() -> Iterator[LogCapture]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def messages_of(log: LogCapture) -> list[str]:
    """The events that were logged."""
    return [entry["event"] for entry in log]


class Ledger:
    """A database of one list, which a test can make fail or wait."""

    def __init__(self) -> None:
        self.effects: list[Any] = []
        self.committed: list[list[str]] = []
        self.fails = False
        self.tries = 0
        """How often something was to be committed."""
        self.takes = 0.0
        """Seconds that a commit takes."""
        self.syncing = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self._pending: list[str] = []

    def begin(self) -> None:
        self._pending = []
        self.effects = []

    def flush(self) -> bool:
        return bool(self._pending)

    def commit(self) -> None:
        self.syncing.set()
        self.gate.wait()
        if self._pending:
            self.tries += 1
            time.sleep(self.takes)  # as the disk does
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
        self.published: list[str] = []
        self.commits = GroupCommit(self.ledger, self._receive, NullObserver(), max_pending=100)

    async def syncing(self) -> None:
        """Wait until the thread is in `Ledger.commit`."""
        await asyncio.to_thread(self.ledger.syncing.wait)

    def _receive(self, effects: list[Any]) -> None:
        self.published += [effect.event for effect in effects]

    async def _run(self, operation: Callable[[Ledger], Any]) -> Any:
        return await self.commits.run(operation, "alice")

    async def gather(self, *operations: Callable[[Ledger], Any]) -> list[Any]:
        """Run operations in one batch: a first one keeps the thread busy until all of them wait."""
        self.ledger.gate.clear()
        first = asyncio.ensure_future(self.commits.run(write("first"), "alice"))
        await asyncio.sleep(0)
        running = [asyncio.ensure_future(self._run(operation)) for operation in operations]
        await asyncio.sleep(0)
        self.ledger.gate.set()
        await asyncio.gather(first, return_exceptions=True)
        return await asyncio.gather(*running, return_exceptions=True)


async def test_waiting_operations_are_committed_in_one_batch_and_published_in_order() -> None:
    setup = Setup()
    assert await setup.gather(*(write(str(number)) for number in range(50))) == [str(n) for n in range(50)]
    assert len(setup.ledger.committed) <= 3
    assert setup.published == ["first", *(str(number) for number in range(50))]
    await setup.commits.close(5)


async def test_operations_of_successive_iterations_are_committed_in_one_batch() -> None:
    """A busy loop brings some in each of its iterations."""
    setup = Setup()
    running = []
    for number in range(20):
        running.append(setup.commits.run(write(str(number)), "alice"))
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    assert len(setup.ledger.committed) <= 2
    await setup.commits.close(5)


async def test_no_batch_grows_for_ever() -> None:
    """Not even where every event-loop iteration adds more."""
    ledger = Ledger()
    commits = GroupCommit(ledger, lambda effects: None, NullObserver())
    running = []
    end = time.perf_counter() + 500 * MAX_GATHER_TIME
    while len(ledger.committed) < 3:
        assert time.perf_counter() < end
        running.append(commits.run(write("more"), "alice"))
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    await commits.close(5)


async def test_a_refused_operation_does_not_affect_its_batch() -> None:
    setup = Setup()
    results = await setup.gather(write("a"), refuse, write("b"))
    assert (results[0], results[2]) == ("a", "b")
    assert isinstance(results[1], RoomNotFound)
    await setup.commits.close(5)


async def test_a_failing_operation_is_rolled_back_alone(
    log: LogCapture,
) -> None:
    setup = Setup()
    results = await setup.gather(write("a"), stumble, write("b"))
    assert (results[0], results[2]) == ("a", "b")
    assert isinstance(results[1], Unavailable)
    assert sorted(word for group in setup.ledger.committed for word in group) == ["a", "b", "first"]
    assert "half" not in setup.published
    assert "an operation of the store failed" in messages_of(log)
    await setup.commits.close(5)


async def test_a_failing_disk_is_unavailable_until_it_works_again(log: LogCapture) -> None:
    setup = Setup()
    setup.ledger.fails = True
    results = await setup.gather(write("a"), write("b"))
    assert all(isinstance(result, Unavailable) for result in results)
    assert setup.published == []
    await setup.commits.run(lambda ledger: None, "alice")
    assert "the store works again" not in messages_of(log)
    setup.ledger.fails = False
    assert await setup.commits.run(write("c"), "alice") == "c"
    assert setup.published == ["c"]
    assert messages_of(log).count("the store fails") == 1
    assert messages_of(log).count("the store works again") == 1
    await setup.commits.close(5)


async def test_a_slowly_failing_disk_fails_the_whole_batch_at_once(log: LogCapture) -> None:
    """Waiting operations are not tried again one by one: every caller soon learns that its own was not kept."""
    ledger, published = Ledger(), list[Any]()
    ledger.fails, ledger.takes = True, 0.1
    commits = GroupCommit(ledger, published.extend, NullObserver())
    began = time.perf_counter()
    calls = [commits.run(write(str(number)), f"user{number % 50}") for number in range(300)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert time.perf_counter() - began < 0.5
    assert {type(result) for result in results} == {Unavailable}
    assert (ledger.tries <= 3, ledger.committed, published) == (True, [], [])
    ledger.fails = False
    assert await commits.run(write("again"), "user1") == "again"
    await commits.close(5)


async def test_an_operation_that_the_disk_fails_fails_its_batch(log: LogCapture) -> None:
    """SQLite can find the disk full in any statement, and may undo the transaction then."""
    setup = Setup()
    full = sqlite3.connect(":memory:")
    full.execute("PRAGMA max_page_count = 2")
    full.execute("CREATE TABLE pages (content)")
    results = await setup.gather(
        write("a"), lambda ledger: full.execute("INSERT INTO pages VALUES (zeroblob(10000))"), write("b")
    )
    assert [type(result) for result in results[:2]] == [Unavailable] * 2
    assert "an operation of the store failed" not in messages_of(log)
    assert "the store fails" in messages_of(log)
    full.close()
    await setup.commits.close(5)


async def test_only_the_failing_operation_is_run_alone(log: LogCapture) -> None:
    """The others stay together: they cost no commit each."""
    setup = Setup()
    results = await setup.gather(*(stumble if number == 20 else write(str(number)) for number in range(50)))
    assert isinstance(results.pop(20), Unavailable)
    assert results == [str(number) for number in range(50) if number != 20]
    assert setup.published == ["first", *results]
    assert len(setup.ledger.committed) <= 4
    await setup.commits.close(5)


async def test_a_cancelled_call_is_not_run() -> None:
    setup = Setup()
    setup.ledger.gate.clear()
    first = setup.commits.run(write("first"), "alice")
    await setup.syncing()
    dropped, second = setup.commits.run(write("dropped"), "alice"), setup.commits.run(write("second"), "alice")
    dropped.cancel()
    setup.ledger.gate.set()
    assert await asyncio.gather(first, second) == ["first", "second"]
    assert setup.published == ["first", "second"]
    await setup.commits.close(5)


async def test_a_hanging_disk_is_reported_and_does_not_prevent_closing(log: LogCapture) -> None:
    """After two seconds it is known; closing ends in time and returns that not everything is kept."""
    setup = Setup()
    setup.ledger.gate.clear()
    calls = [setup.commits.run(write("under way"), "alice")]
    await setup.syncing()
    calls.append(setup.commits.run(write("waiting"), "alice"))
    began = time.perf_counter()
    assert setup.commits.problem() is None
    await until(lambda: setup.commits.problem() is not None)
    assert time.perf_counter() - began > 0.95 * HANG_THRESHOLD
    assert setup.commits.problem() == "a commit has been under way for 2 s"
    began = time.perf_counter()
    assert await setup.commits.close(0.2) is False
    assert time.perf_counter() - began < 0.5
    assert {type(result) for result in await asyncio.gather(*calls, return_exceptions=True)} == {Unavailable}
    assert setup.published == []
    setup.ledger.gate.set()


async def test_closing_returns_whether_everything_was_kept(log: LogCapture) -> None:
    for fails in (False, True):
        setup = Setup()
        setup.ledger.fails = fails
        waiting = asyncio.gather(setup.commits.run(write("last"), "alice"), return_exceptions=True)
        assert await setup.commits.close(5) is not fails
        await waiting


async def test_long_operations_do_not_starve_others() -> None:
    """Waiting operations are run in slices: other work of the event loop is not delayed by all of them."""
    commits, iterations = GroupCommit(Ledger(), lambda effect: None, NullObserver()), 0

    async def count() -> None:
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)  # the loop turns

    counting = asyncio.create_task(count())
    for operation in (
        lambda ledger: time.sleep(MAX_RUN_TIME),  # what it costs
        lambda ledger: time.sleep(MAX_RUN_TIME) or ledger.write("x"),  # and this
    ):
        before = iterations
        await asyncio.gather(*(commits.run(operation, "alice") for _ in range(10)))
        assert iterations - before >= 10
    counting.cancel()
    await commits.close(5)


async def test_the_number_of_waiting_operations_is_bounded() -> None:
    setup = Setup()
    results = await setup.gather(*(write(str(number)) for number in range(150)))
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert 40 <= len(refused) <= 60
    await setup.commits.close(5)


async def test_closing_finishes_waiting_operations_and_refuses_new_ones() -> None:
    setup = Setup()
    running = [asyncio.ensure_future(setup.commits.run(write(str(number)), "alice")) for number in range(10)]
    await asyncio.sleep(0)
    await setup.commits.close(5)
    assert await asyncio.gather(*running) == [str(number) for number in range(10)]
    with pytest.raises(Unavailable):
        await setup.commits.run(write("late"), "alice")
    await setup.commits.close(5)


async def test_a_failing_subscriber_keeps_nobody_waiting(log: LogCapture) -> None:
    def stumble_over(effect: object) -> None:
        raise ZeroDivisionError

    commits = GroupCommit(Ledger(), stumble_over, NullObserver())
    assert await commits.run(write("a"), "alice") == "a"
    assert "the effects of a commit could not be delivered" in messages_of(log)
    await commits.close(5)


class Operation:
    """An operation that can be watched."""

    def __init__(self, operation: Callable[[Ledger], Any]) -> None:
        self._operation = operation

    def __call__(self, ledger: Ledger) -> Any:
        return self._operation(ledger)


@pytest.mark.parametrize("odd", [refuse, stumble, write("none")], ids=["refused", "stumbling", "none"])
@pytest.mark.parametrize("fails", [False, True], ids=["the disk works", "the disk fails"])
async def test_a_finished_batch_is_not_referenced(odd: Callable[[Ledger], Any], fails: bool) -> None:
    """Also where one of its operations was refused or went wrong, or all of it: no error keeps what was to be written
    until Python's garbage collector comes. What failed last may stay until something is kept again.
    """
    setup = Setup()
    operations = [Operation(write("a")), Operation(odd), Operation(write("b"))]
    watched = [weakref.ref(operation) for operation in operations]
    gc.collect()
    gc.disable()
    try:
        setup.ledger.fails = fails
        await setup.gather(*operations)
        operations.clear()
        setup.ledger.fails = False
        await setup.commits.run(write("next"), "alice")
        await asyncio.sleep(0)
        assert [reference() for reference in watched] == [None] * 3
    finally:
        gc.enable()
        await setup.commits.close(5)
