"""Running rules: those that wait at one time together, and again where what they have read has changed.

::

    wait ──▶ run, in rounds of reading ──▶ commit ──▶ done: delivered here, then returned
      ▲           │ needs what another        │
      │           ▼ has changed               ▼ a conflict: another node was faster
      └───────────┴───────────────────────────┘

Rules of a batch that change the same room are committed by one script; the others each by one of their own, so that a
conflict concerns only those that are in it. All scripts of a batch are sent at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from gateway.engines.base import NOBODY
from gateway.engines.valkey.draft import Draft
from gateway.engines.valkey.node import RETRY_AFTER
from gateway.engines.valkey.runs import Call, Run, apply, checks_of, group_by_rooms, is_outdated, user_checks
from gateway.engines.valkey.scripts import COMMIT_ADDING
from gateway.engines.valkey.transaction import ValkeyTransaction
from gateway.engines.valkey.workspace import PostponedError, Read, Workspace
from gateway.errors import GatewayError, Stopping, Unavailable
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.engines.base import Policy, Rule
    from gateway.engines.valkey.hub import Pending
    from gateway.engines.valkey.node import Node

T = TypeVar("T")
logger = get_logger(__name__)

MAX_AT_ONCE: Final = 64
"""Rules in one batch."""

MAX_TIME: Final = 5.0
"""How long a rule is tried, in seconds, while other nodes are faster again and again."""

FEW_CONFLICTS: Final = 2
"""After how many conflicts a batch waits a moment, so that nodes do not keep making each other fail."""


class Batches:
    """Runs the rules of one node."""

    def __init__(self, node: Node, policy: Policy) -> None:
        self._node = node
        self._policy = policy
        self._waiting: deque[Call] = deque()
        self._later: deque[Call] = deque()
        """Calls for which no client is waiting."""
        self._arrived = asyncio.Event()
        self._closed = False
        self.pending: dict[str, Pending] = {}
        """Attachments that are being committed, by token."""

    def put(self, client: str, rule: Rule[T], *, low_priority: bool) -> asyncio.Future[tuple[T, int]]:
        """What the rule returns, and the position at which it was committed (0 where it wrote nothing)."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[T, int]] = loop.create_future()
        if self._closed:
            future.set_exception(Stopping())
            return future
        call = Call(client, rule, future, time.monotonic() + MAX_TIME, low_priority)
        (self._later if low_priority else self._waiting).append(call)
        self._arrived.set()
        return future

    async def run(self) -> None:
        """Run batches, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while calls := self._take():
                try:
                    await self._run_batch(calls)
                except GatewayError as error:
                    _reject(calls, error)
                except Exception:
                    logger.exception("a batch of rules failed")
                    _reject(calls, Unavailable("The store cannot do this now; try again."))

    def close(self) -> None:
        self._closed = True
        _reject([*self._waiting, *self._later], Unavailable("The store cannot do this now; try again."))

    # --- batches

    def _take(self) -> list[Call]:
        """The calls of the next batch: one of each client at most, and a few of low priority beside the others."""
        taken: list[Call] = []
        clients: set[str] = set()
        for queue, most in ((self._waiting, MAX_AT_ONCE), (self._later, MAX_AT_ONCE // 4)):
            kept: deque[Call] = deque()
            room_for = len(taken) + most
            while queue and len(taken) < room_for:
                call = queue.popleft()
                if call.future.done():
                    continue
                if call.client in clients and call.client != NOBODY:
                    kept.append(call)
                    continue
                clients.add(call.client)
                taken.append(call)
            queue.extendleft(reversed(kept))
        return taken

    async def _run_batch(self, calls: Sequence[Call]) -> None:
        workspace = Workspace(self._node.windows_began)
        again: list[Call] = []
        done = await self._run_rules([self._begin(call, workspace) for call in calls], workspace, again)
        groups = group_by_rooms([run for run in done if run.has_written])
        results = await asyncio.gather(*(self._commit(group.runs) for group in groups), return_exceptions=True)
        for group, result in zip(groups, results, strict=True):
            if isinstance(result, BaseException):
                self._fail(group.runs, result)
            elif result is None:
                again += [run.call for run in group.runs]
                _note_conflict(group.runs)
            else:
                for run in group.runs:
                    _resolve(run.call, run.result, result)
        await self._finish_readers([run for run in done if not run.has_written], again)
        await self._put_back(again)

    def _begin(self, call: Call, workspace: Workspace) -> Run:
        draft = Draft(workspace, self._node, self._policy)
        return Run(call, draft, call.rule(ValkeyTransaction(draft)))

    async def _run_rules(self, runs: list[Run], workspace: Workspace, again: list[Call]) -> list[Run]:
        """Run rules to their ends; those in the way of others are added to ``again``."""
        done: list[Run] = []
        while runs:
            waiting: list[Run] = []
            for run in runs:
                if self._advance(run):
                    waiting.append(run)
                elif isinstance(run.error, PostponedError):
                    again.append(run.call)
                elif is_outdated(run, workspace):
                    waiting.append(self._begin(run.call, workspace))
                else:
                    apply(run, workspace)
                    done.append(run)
            await self._read(
                [run.read for run in waiting if run.read is not None and run.read.reply is None], workspace
            )
            runs = waiting
        return done

    def _advance(self, run: Run) -> bool:
        """Run a rule until it waits for something to be read, or ends. Returns whether it waits."""
        try:
            run.read = run.rule.send(None)
        except StopIteration as end:
            run.result = end.value
            return False
        except Exception as error:
            run.error = error
            return False
        run.rounds += 1
        return True

    async def _read(self, reads: list[Read], workspace: Workspace) -> None:
        if not reads:
            return
        replies = await asyncio.gather(*(self._node.read(read.script, *read.arguments) for read in reads))
        for read, reply in zip(reads, replies, strict=True):
            read.reply = reply
        if workspace.position is None:
            workspace.position = self._node.read_position

    async def _commit(self, runs: Sequence[Run]) -> int | None:
        """The position of the commit; None where what the rules have read does not hold any more."""
        policy, pending = self._policy, {token: each for run in runs for token, each in run.draft.pending.items()}
        self.pending |= pending
        node = self._node.id
        try:
            status, position, *_ = await self._node.run(
                COMMIT_ADDING if any(run.draft.adds for run in runs) else "commit",
                node,
                self._node.epochs.current,
                orjson.dumps(checks_of(runs)),
                orjson.dumps([write for run in runs for write in run.draft.writes]),
                policy.history_size,
                policy.history_bytes,
                int(1000 * (2 * policy.recovery_window + 60)),
                int(1000 * policy.decline_window),
            )
        except BaseException:
            self._drop_pending(pending)
            raise
        if status == b"done":
            return int(position)
        self._drop_pending(pending)
        if status == b"fenced":
            await self._node.fence(node)
            raise Unavailable("This node lost its place in the cluster; try again.", retry_after=RETRY_AFTER)
        return None

    def _drop_pending(self, tokens: dict[str, Pending]) -> None:
        for token in tokens:
            self.pending.pop(token, None)

    async def _finish_readers(self, runs: Sequence[Run], again: list[Call]) -> None:
        """Return what rules that wrote nothing have found; after several reads, only if these fit together."""
        for run in runs:
            if run.rounds > 1 and not await self._still_holds(run):
                again.append(run.call)
                _note_conflict([run])
            elif run.error is None:
                _resolve(run.call, run.result, 0)
            else:
                self._fail([run], run.error)

    async def _still_holds(self, run: Run) -> bool:
        checks = user_checks([run])
        status, *_ = await self._node.run(
            "commit", self._node.id, self._node.epochs.current, orjson.dumps(checks), b"[]", 0, 0, 0, 0
        )
        return bool(status != b"conflict")

    def _fail(self, runs: Sequence[Run], error: BaseException) -> None:
        if not isinstance(error, GatewayError):
            logger.error("an operation of the store failed", exc_info=error)
            error = Unavailable("The store cannot do this now; try again.")
        for run in runs:
            if not run.call.future.done():
                run.call.future.set_exception(error)

    async def _put_back(self, calls: Sequence[Call]) -> None:
        now = time.monotonic()
        late = [call for call in calls if call.gives_up_at < now]
        _reject(late, Unavailable("Too many others are changing the same; try again.", retry_after=RETRY_AFTER))
        kept = [call for call in calls if call.gives_up_at >= now]
        for call in reversed(kept):
            (self._later if call.low_priority else self._waiting).appendleft(call)
        if kept and min(call.conflicts for call in kept) > FEW_CONFLICTS:
            await asyncio.sleep(random.uniform(0, 0.002))  # noqa: S311 - no secret


def _note_conflict(runs: Sequence[Run]) -> None:
    for run in runs:
        run.call.conflicts += 1


def _resolve(call: Call, result: object, position: int) -> None:
    if not call.future.done():
        call.future.set_result((result, position))


def _reject(calls: Sequence[Call], error: GatewayError) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(error)
