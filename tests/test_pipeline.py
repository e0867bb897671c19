"""The pipeline of an action: who may, how often, with which payload, and what is observed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from gateway.access.actors import Actor
from gateway.access.limits import RateLimits
from gateway.config import Settings
from gateway.errors import RoomNotFound
from gateway.pipeline import Pipeline
from gateway.protocol.actions import ACTIONS, Action, OpenDirect, SendMessage

if TYPE_CHECKING:
    from gateway.chat import Fields
    from gateway.protocol.actions import AnyRequest

pytestmark = pytest.mark.fast

ALICE, SECOND, BOB = Actor("alice", "1"), Actor("alice", "2"), Actor("bob", "3")
"""Two connections of a user, and one of another."""

HELLO = {"room": "tea", "content": "Hello!"}


class RecordingChat:
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, AnyRequest]] = []
        self.failure: Exception | None = None

    async def perform(self, actor: str, request: AnyRequest) -> Fields:
        self.done.append((actor, request))
        if self.failure is not None:
            raise self.failure
        return {"id": "m1"}


class RecordingObserver:
    """Notes what was performed."""

    def __init__(self) -> None:
        self.seen: list[tuple[Actor | None, object, str | None]] = []

    def performed(self, actor: Actor | None, action: object, error: str | None, duration: float) -> None:
        assert 0 <= duration < 60
        self.seen.append((actor, action, error))


class Bench:
    """A pipeline, with the chat and the observer at its ends and a clock that stands still."""

    def __init__(self, *, rate_limit: float = 0, add_limit: float = 0) -> None:
        self.now = 0.0
        self.chat = RecordingChat()
        self.observer = RecordingObserver()
        rates = RateLimits(rate_limit=rate_limit, add_limit=add_limit, clock=lambda: self.now)
        limits = dataclasses.asdict(Settings())
        self.pipeline = Pipeline(self.chat, rates, limits, self.observer)  # type: ignore[arg-type]

    async def perform(self, actor: Actor | None, action: object, payload: object) -> str | None:
        """The code of the error, if it failed."""
        reply = await self.pipeline.perform(actor, action, payload)
        assert reply["ok"] is ("error" not in reply)
        return None if reply["ok"] else str(reply["error"]["code"])


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_valid_request_is_performed_for_its_actor(bench: Bench) -> None:
    """The chat is given the username and the request; the reply is what it returns, and `ok`."""
    assert await bench.pipeline.perform(ALICE, "send-msg", HELLO) == {"ok": True, "id": "m1"}
    assert bench.chat.done == [("alice", SendMessage("tea", "Hello!"))]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
async def test_every_alias_of_an_action_works(bench: Bench, action: Action) -> None:
    """Its own, and its aliases."""
    for name in action.names:
        assert await bench.perform(ALICE, name, action.example.request) is None
    assert len(bench.chat.done) == len(action.names)
    assert {type(request) for _, request in bench.chat.done} == {action.request}


async def test_a_request_without_a_session_is_unauthorized(bench: Bench) -> None:
    """A connection without a session is `unauthorized`, whatever it asks for."""
    assert await bench.perform(None, "send-msg", HELLO) == "unauthorized"
    assert await bench.perform(None, "no such action", 5) == "unauthorized"
    assert bench.chat.done == []


async def test_an_invalid_request_is_not_performed(bench: Bench) -> None:
    """An unknown action, an action that is not a string, a payload that is not an object, an invalid field."""
    assert await bench.perform(ALICE, "fly", {}) == "unknown_action"
    assert await bench.perform(ALICE, ["send-msg"], HELLO) == "invalid_payload"
    assert await bench.perform(ALICE, "send-msg", [HELLO]) == "invalid_payload"
    assert await bench.perform(ALICE, "send-msg", {**HELLO, "content": ""}) == "invalid_payload"
    assert bench.chat.done == []


async def test_the_rate_limit_is_per_connection() -> None:
    """Whatever is asked for counts, right or wrong; another connection of the same user has a rate of its own."""
    bench = Bench(rate_limit=2)
    assert await bench.perform(ALICE, "fly", {}) == "unknown_action"
    assert await bench.perform(ALICE, "send-msg", {}) == "invalid_payload"
    assert await bench.perform(ALICE, "send-msg", HELLO) == "rate_limited"
    assert await bench.perform(ALICE, "fly", {}) == "rate_limited"
    assert await bench.perform(SECOND, "send-msg", HELLO) is None
    bench.now += 0.5
    assert await bench.perform(ALICE, "send-msg", HELLO) is None
    assert await bench.perform(ALICE, "send-msg", HELLO) == "rate_limited"


async def test_an_action_may_cost_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an action costs is declared with it."""
    costly = [dataclasses.replace(action, cost=2.0) for action in ACTIONS]
    monkeypatch.setattr("gateway.pipeline.ACTIONS", costly)
    bench = Bench(rate_limit=3)
    assert await bench.perform(ALICE, "send-msg", HELLO) is None
    assert await bench.perform(ALICE, "send-msg", HELLO) == "rate_limited"
    assert await bench.perform(ALICE, "fly", {}) == "unknown_action"


async def test_the_add_limit_is_per_user() -> None:
    """Users that are added count, on whatever connection; who opens a direct room adds one, and never oneself."""
    bench = Bench(add_limit=3)
    assert await bench.perform(ALICE, "create-room", {"room": "tea", "users": ["bob", "carol"]}) is None
    assert await bench.perform(SECOND, "open-direct", {"user": "alice"}) is None
    assert await bench.perform(SECOND, "open-direct", {"user": "bob"}) is None
    assert await bench.perform(ALICE, "add-user", {"room": "tea", "users": ["dave"]}) == "rate_limited"
    assert await bench.perform(ALICE, "create-room", {"room": "coffee"}) is None
    assert await bench.perform(BOB, "open-direct", {"user": "alice"}) is None
    assert bench.chat.done[1] == ("alice", OpenDirect("alice"))
    bench.now += 20
    assert await bench.perform(ALICE, "add-user", {"room": "tea", "users": ["dave"]}) is None


async def test_refused_additions_do_not_count() -> None:
    """Only a valid request asks to add anybody."""
    bench = Bench(add_limit=1)
    for _ in range(5):
        assert await bench.perform(ALICE, "open-direct", {"user": "Not A Name"}) == "invalid_payload"
    assert await bench.perform(ALICE, "open-direct", {"user": "bob"}) is None


async def test_an_error_of_the_chat_is_the_reply(bench: Bench) -> None:
    """With its sentence."""
    bench.chat.failure = RoomNotFound("tea")
    assert await bench.pipeline.perform(ALICE, "send-msg", HELLO) == {
        "ok": False,
        "error": {"code": "room_not_found", "message": "You are not in a room named 'tea'."},
    }


async def test_a_bug_is_logged_and_replied_to_as_internal(bench: Bench) -> None:
    """The client is asked to try again, and learns nothing else."""
    bench.chat.failure = ZeroDivisionError("secret")
    with capture_logs() as logs:
        reply = await bench.pipeline.perform(ALICE, "send-msg", HELLO)
    assert reply["error"]["code"] == "unavailable"
    assert "secret" not in str(reply)
    assert [(entry["event"], entry["action"]) for entry in logs] == [("an action failed", "send-msg")]


async def test_the_observer_is_called_once_for_each_action(bench: Bench) -> None:
    """Of those that were done, refused or failed, with the code of the error."""
    payloads: list[tuple[Actor | None, Any, Any]] = [
        (ALICE, "send-msg", HELLO),
        (ALICE, "send-msg", {}),
        (BOB, "fly", HELLO),
        (None, ["?"], HELLO),
    ]
    for actor, action, payload in payloads:
        await bench.perform(actor, action, payload)
    bench.chat.failure = ZeroDivisionError()
    with capture_logs():
        await bench.perform(ALICE, "send-msg", HELLO)
    assert bench.observer.seen == [
        (ALICE, "send-msg", None),
        (ALICE, "send-msg", "invalid_payload"),
        (BOB, "fly", "unknown_action"),
        (None, ["?"], "unauthorized"),
        (ALICE, "send-msg", "unavailable"),
    ]
