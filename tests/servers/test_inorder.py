"""The order in which a client's messages are handled and replied to."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from gateway.servers.inorder import MAX_WAITING, PAUSE, Answer, InOrder
from gateway.servers.pauses import Pause
from harness.waiting import until

pytestmark = pytest.mark.fast

SOON = 5.0
"""Seconds that only a failing test waits."""


class Source:
    """A stream that counts how often it was paused."""

    def __init__(self) -> None:
        self.paused = False
        self.pauses = 0

    def pause(self, reason: Pause) -> None:
        self.pauses += not self.paused
        self.paused = True

    def resume(self, reason: Pause) -> None:
        self.paused = False


class Handler:
    """A coroutine that handles messages one by one, when the test allows it."""

    def __init__(self) -> None:
        self.source = Source()
        self.handled: list[Any] = []
        self.at_once = 0
        self._gate = asyncio.Semaphore(0)
        self.in_order = InOrder(self.source)

    def put(self, item: Any) -> None:
        self.in_order.put(partial(self._handle, item))

    async def _handle(self, item: Any) -> None:
        self.at_once += 1
        assert self.at_once == 1, "two at once"
        await self._gate.acquire()
        self.at_once -= 1
        if isinstance(item, Exception):
            raise item
        self.handled.append(item)

    async def let(self, count: int) -> None:
        """Let that many be handled, and wait until they are."""
        wanted = len(self.handled) + count
        for _ in range(count):
            self._gate.release()
        async with asyncio.timeout(SOON):
            while len(self.handled) < wanted:  # noqa: ASYNC110 (event-loop iterations, no time)
                await asyncio.sleep(0)


async def test_messages_are_handled_one_at_a_time() -> None:
    """In the order they came, never two at once, however slow the handler."""
    handler = Handler()
    for number in range(20):
        handler.put(number)
    await handler.let(20)
    assert handler.handled == list(range(20))


async def test_a_stream_is_paused_at_the_bound() -> None:
    """`MAX_WAITING` messages wait after the one that is handled; reading goes on when half of them are done."""
    handler = Handler()
    for number in range(MAX_WAITING):
        handler.put(number)
    assert not handler.source.paused
    handler.put(MAX_WAITING)
    assert handler.source.paused
    await handler.let(MAX_WAITING // 2 - 1)
    assert handler.source.paused
    await handler.let(2)
    await until(lambda: not handler.source.paused)
    await handler.let(MAX_WAITING // 2)
    assert handler.handled == list(range(MAX_WAITING + 1))
    assert handler.source.pauses == 1


async def test_a_failing_handler_does_not_stop_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the messages after it are handled."""
    handler = Handler()
    handler.put(ValueError("wrong"))
    handler.put("next")
    handler._gate.release()
    await handler.let(1)
    assert handler.handled == ["next"]
    assert "ValueError: wrong" in caplog.text


async def test_idle_waits_for_all_messages() -> None:
    """It returns at once where nothing waits, and otherwise after the last message."""
    handler = Handler()
    await handler.in_order.idle()
    handler.put(1)
    handler.put(2)
    waiting = asyncio.create_task(handler.in_order.idle())
    await handler.let(1)
    assert not waiting.done()
    await handler.let(1)
    async with asyncio.timeout(SOON):
        await waiting
    assert handler.handled == [1, 2]


async def test_there_is_no_task_while_there_are_no_messages() -> None:
    """A client that says nothing costs no task, before its first message and after its last."""
    before = asyncio.all_tasks()
    handler = Handler()
    assert asyncio.all_tasks() == before
    handler.put(1)
    assert len(asyncio.all_tasks() - before) == 1
    await handler.let(1)
    await handler.in_order.idle()
    assert asyncio.all_tasks() == before


async def test_a_busy_client_yields_to_others() -> None:
    """However many it sends, there is a pause after every few."""
    handled: list[float] = []

    async def handle() -> None:
        handled.append(asyncio.get_running_loop().time())

    class Endless(Source):
        def resume(self, reason: Pause) -> None:
            super().resume(reason)
            while not self.paused and len(handled) < 10 * MAX_WAITING:
                in_order.put(handle)

    source = Endless()
    in_order = InOrder(source)
    source.resume(Pause.HANDLING)
    await until(lambda: len(handled) >= 10 * MAX_WAITING)
    gaps = [after - before for before, after in pairwise(handled) if after - before > PAUSE / 2]
    assert len(gaps) >= len(handled) / (MAX_WAITING + 1) - 2


class Overlapping:
    """Messages that may overlap: which were begun, and which replied to."""

    def __init__(self) -> None:
        self.source = Source()
        self.begun: list[Any] = []
        self.replied: list[Any] = []
        self.in_order = InOrder(self.source)

    def add(self, item: Any) -> asyncio.Future[None]:
        """A message; its reply is ready when the future has a result."""
        found = asyncio.get_running_loop().create_future()
        self.in_order.overlap(partial(self._handle, item, found))
        return found

    def add_alone(self, item: Any) -> asyncio.Future[None]:
        found = asyncio.get_running_loop().create_future()

        async def work() -> None:
            (await self._handle(item, found))()

        self.in_order.put(work)
        return found

    async def _handle(self, item: Any, found: asyncio.Future[None]) -> Answer:
        self.begun.append(item)
        await found
        return partial(self.replied.append, item)


async def some_iterations() -> None:
    """Let everything happen that is about to."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_overlapping_messages_begin_at_once_and_are_replied_to_in_order() -> None:
    handler = Overlapping()
    found = [handler.add(number) for number in range(5)]
    await some_iterations()
    assert handler.begun == [0, 1, 2, 3, 4]
    for number, replied in ((4, []), (1, []), (0, [0, 1]), (3, [0, 1]), (2, [0, 1, 2, 3, 4])):
        found[number].set_result(None)
        await some_iterations()
        assert handler.replied == replied


async def test_an_exclusive_message_overlaps_with_no_other() -> None:
    """It begins after the replies before it, and what follows begins when it is done."""
    handler = Overlapping()
    found = [handler.add(1), handler.add(2), handler.add_alone("alone"), handler.add(3), handler.add(4)]
    await some_iterations()
    assert handler.begun == [1, 2]
    found[1].set_result(None)
    await some_iterations()
    assert handler.begun == [1, 2]
    found[0].set_result(None)
    await some_iterations()
    assert (handler.begun, handler.replied) == ([1, 2, "alone"], [1, 2])
    found[3].set_result(None)
    found[2].set_result(None)
    await some_iterations()
    assert (handler.begun, handler.replied) == ([1, 2, "alone", 3, 4], [1, 2, "alone", 3])
    found[4].set_result(None)
    await handler.in_order.idle()
    assert handler.replied == [1, 2, "alone", 3, 4]


async def test_a_failing_message_holds_back_no_other_reply(caplog: pytest.LogCaptureFixture) -> None:
    handler = Overlapping()
    first, second = handler.add(1), handler.add(2)
    second.set_result(None)
    first.set_exception(ValueError("wrong"))
    await some_iterations()
    assert handler.replied == [2]
    assert "ValueError: wrong" in caplog.text


@pytest.mark.parametrize("wrong", [ValueError("wrong"), asyncio.CancelledError()], ids=["fails", "is given up"])
async def test_an_early_failure_does_not_change_the_order(wrong: BaseException) -> None:
    """An exclusive message still waits for those before the one that failed, and so does ``idle``."""
    handler = Overlapping()
    first, second = handler.add(1), handler.add(2)
    second.set_exception(wrong)
    await some_iterations()
    handler.add_alone("alone").set_result(None)
    idle = asyncio.create_task(handler.in_order.idle())
    await some_iterations()
    assert (handler.begun, idle.done()) == ([1, 2], False)
    first.set_result(None)
    await idle
    assert handler.replied == [1, "alone"]


@pytest.mark.parametrize("wrong", [ValueError("wrong"), asyncio.CancelledError()], ids=["fails", "is given up"])
async def test_a_failing_exclusive_message_stops_nothing(wrong: BaseException) -> None:
    """Neither what waits nor the end of the session after it."""
    handler = Overlapping()
    found = [handler.add_alone(1), handler.add(2), handler.add_alone("end")]
    found[0].set_exception(wrong)
    found[1].set_result(None)
    found[2].set_result(None)
    await some_iterations()
    assert handler.replied == [2, "end"]


async def test_a_failing_reply_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    in_order = InOrder(Source())
    done: list[str] = []

    async def find() -> Answer:
        return partial(done.remove, "nothing")

    async def end() -> None:
        done.append("end")

    in_order.overlap(find)
    in_order.put(end)
    await in_order.idle()
    assert done == ["end"]
    assert "ValueError" in caplog.text


async def test_overlapping_messages_are_bounded() -> None:
    handler = Overlapping()
    found = [handler.add(number) for number in range(MAX_WAITING + 1)]
    assert handler.source.paused
    for future in found:
        future.set_result(None)
    await until(lambda: not handler.source.paused)


async def test_a_client_that_finishes_is_not_read_any_more() -> None:
    """Not even when what waited is done."""
    handler = Overlapping()
    found = [handler.add(number) for number in range(MAX_WAITING + 1)]
    finishing = asyncio.create_task(handler.in_order.finish())
    for future in found:
        future.set_result(None)
    await finishing
    await asyncio.sleep(5 * PAUSE)  # when it would be read on
    assert handler.source.paused
    assert len(handler.replied) == len(found)


async def test_cancelled_messages_get_no_reply() -> None:
    handler = Overlapping()
    found = [handler.add(1), handler.add_alone(2), handler.add(3)]
    await some_iterations()
    handler.in_order.cancel()
    await some_iterations()
    assert (handler.begun, handler.replied) == ([1], [])
    assert found[0].cancelled()
