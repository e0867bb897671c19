"""Fair queueing: whose call is next, by what each client's calls have cost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from gateway.engines.sqlite.commits import MAX_RUN_TIME, GroupCommit
from gateway.engines.sqlite.fairqueue import HANDICAP, MIN_REMEMBERED, FairQueue
from gateway.observe import NullObserver

from .test_commits import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.fast


class Queue:
    """A fair queue whose calls are words, and cost what the test says."""

    def __init__(self) -> None:
        self.calls = FairQueue()
        self._loop = asyncio.new_event_loop()

    def put(self, client: str, *words: str, low_priority: bool = False) -> None:
        for word in words:
            future = self._loop.create_future()
            self.calls.put(client, lambda _, word=word: word, future, low_priority=low_priority)

    def serve(self, cost: float = 0.0) -> str:
        call = self.calls.next()
        assert call is not None
        self.calls.take(call)
        self.calls.charge(call, cost)
        return str(call.operation(None))

    def serve_all(self) -> Iterator[str]:
        while self.calls:
            yield self.serve(1.0)


def test_the_calls_of_one_client_keep_their_order() -> None:
    queue = Queue()
    queue.put("alice", *"abcd")
    assert "".join(queue.serve_all()) == "abcd"


def test_equal_clients_alternate() -> None:
    queue = Queue()
    queue.put("alice", *"aaa")
    queue.put("bob", *"bbb")
    assert "".join(queue.serve_all()) == "ababab"


def test_a_client_that_used_more_comes_later() -> None:
    """And no later than the others have caught up."""
    queue = Queue()
    queue.put("alice", *"aaa")
    queue.put("bob", *"bbbbbbbb")
    served = ""
    while queue.calls:
        call = queue.calls.next()
        assert call is not None
        served += queue.serve(4.0 if call.operation(None) == "a" else 1.0)
    assert served == "abbbbabbbba"


def test_waiting_neither_saves_up_nor_clears_debts() -> None:
    queue = Queue()
    queue.put("alice", *"aaaaaaaa")
    for _ in range(4):
        queue.serve(1.0)
    queue.put("bob", *"bbbb")  # is owed one call, not four
    assert "".join(queue.serve_all()) == "babababa"
    queue.put("mallory", "m")
    queue.put("alice", "a")
    queue.serve(100.0)
    queue.serve(1.0)
    for _ in range(3):
        queue.put("mallory", "m")
        queue.put("alice", "a")
        assert queue.serve(1.0) == "a"


def test_low_priority_work_comes_after_everything_else() -> None:
    """But for its own client's calls, and not for ever: the others have their share first, and then it comes."""
    queue = Queue()
    for leaver in ("xavier", "yves", "zoe"):
        queue.put(leaver, leaver[0], low_priority=True)
    queue.put("zoe", "Z")
    queue.put("alice", *"aaaaaa")
    queue.put("bob", *"bbbbbb")
    assert "".join(queue.serve(HANDICAP / 3) for _ in range(16)) == "abababxyzZababab"


def test_shares_are_by_client() -> None:
    """Ten clients of one attacker get ten shares, however much each of them has in line and whatever it costs."""
    queue = Queue()
    queue.put("bob", *"b" * 1000)
    for number in range(10):
        queue.put(f"mallory{number}", *"m" * 1000)
    spent: Counter[str] = Counter()
    for _ in range(1400):
        call = queue.calls.next()
        assert call is not None
        word = call.operation(None)
        cost = 0.02 if word == "m" else 0.001
        spent[word] += queue.serve(cost) and cost
    assert 9 < spent["m"] / spent["b"] < 11


def test_newcomers_do_not_shut_others_out() -> None:
    """However many come, each for the first time: a client that was there before is served among them."""
    queue = Queue()
    queue.put("alice", *"aaaaaaaa")
    served = ""
    for number in range(40):
        queue.put(f"visitor{number}", "v")
        served += queue.serve(1.0)
    assert served.count("a") >= 5


def test_work_put_back_keeps_its_order() -> None:
    queue = Queue()
    queue.put("alice", *"abc")
    queue.put("bob", *"xyz")
    taken = []
    for _ in range(4):
        call = queue.calls.next()
        assert call is not None
        queue.calls.take(call)
        queue.calls.charge(call, 1.0)
        taken.append(call)
    queue.put("alice", "d")
    queue.calls.put_back(taken)
    assert len(queue.calls) == 7
    served = list(queue.serve_all())
    assert [word for word in served if word in "abcd"] == list("abcd")
    assert [word for word in served if word in "xyz"] == list("xyz")


def test_idle_clients_are_forgotten() -> None:
    """Not while they are in debt; but the memory of a million visitors is not kept."""
    queue = Queue()
    for number in range(10 * MIN_REMEMBERED):
        queue.put(f"visitor{number}", "x")
        queue.serve(0.001)
    assert len(queue.calls._lines) <= 2 * MIN_REMEMBERED


async def test_an_expensive_client_delays_others_by_one_call_at_most() -> None:
    """32 operations of 20 ms wait; a client with little to do is served between two, and not in one batch with them."""
    commits = GroupCommit(Ledger(), lambda effects: None, NullObserver())

    def expensive(ledger: Ledger) -> None:
        time.sleep(5 * MAX_RUN_TIME)  # what it costs
        ledger.write("dear")

    attack = [commits.run(expensive, "mallory") for _ in range(32)]
    waited: list[float] = []
    for _ in range(15):
        began = time.perf_counter()
        await commits.run(lambda ledger: ledger.write("cheap"), "alice")
        waited.append(time.perf_counter() - began)
    assert not attack[-1].done()
    assert sorted(waited)[10] < 2 * 5 * MAX_RUN_TIME
    await asyncio.gather(*attack)
    await commits.close(5)


async def test_many_clients_that_leave_delay_nobody() -> None:
    """The ends of forty sessions wait, each for a while: a client that calls later is served before most of them."""
    commits = GroupCommit(Ledger(), lambda effects: None, NullObserver())

    def end(ledger: Ledger) -> None:
        time.sleep(MAX_RUN_TIME)  # what it costs
        ledger.write("left")

    leaving = [commits.run(end, f"leaver {number}", low_priority=True) for number in range(40)]
    for number in range(5):
        await commits.run(lambda ledger: ledger.write("cheap"), "alice")
        assert sum(end.done() for end in leaving) <= 4 * (number + 1)
    await asyncio.gather(*leaving)
    await commits.close(5)


async def test_the_calls_of_one_client_keep_their_order_among_others() -> None:
    """Also where its first one is expensive, and others come in between."""
    ledger = Ledger()
    commits = GroupCommit(ledger, lambda effects: None, NullObserver())

    def expensive(ledger: Ledger) -> Any:
        time.sleep(2 * MAX_RUN_TIME)  # what it costs
        return ledger.write("mallory 0")

    calls = [commits.run(expensive, "mallory")]
    for number in range(1, 20):
        for client in ("mallory", "alice", "bob"):
            calls.append(commits.run(lambda ledger, word=f"{client} {number}": ledger.write(word), client))
    await asyncio.gather(*calls)
    done = [word for batch in ledger.committed for word in batch]
    for client in ("mallory", "alice", "bob"):
        assert [int(word.split()[1]) for word in done if word.startswith(client)] == list(
            range(client != "mallory", 20)
        )
    await commits.close(5)
