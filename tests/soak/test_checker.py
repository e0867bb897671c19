"""The judge itself: it praises good histories, and finds what is wrong with each bad one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from soak.checker import History, Message

if TYPE_CHECKING:
    from collections.abc import Callable

ALICE = [Message("tea", "alice", str(number), f"text {number}", 1000 + number, f"o-{number}") for number in range(6)]
"""The messages of alice to bob and carol."""


def history(
    *bob: list[Message],
    log: list[Message] = ALICE,
    fetched: list[Message] | None = None,
    acked: range = range(6),
    sent: int = 6,
) -> History:
    """Alice has sent her messages one after the other. Bob received some in each stretch; carol received it all."""
    recorded = History()
    for name in ("alice", "bob", "carol"):
        recorded.joined(name, "tea")
    for message in ALICE[:sent]:
        recorded.sent("alice", "tea", message.id, message.content)
        if int(message.id) in acked:
            recorded.acked("alice", "tea", message.id, message.ts)
    for number, stretch in enumerate(bob):
        if number > 0:
            recorded.welcomed("bob", ["tea"], recovered=False)
        for message in stretch:
            recorded.received("bob", message)
    recorded.refetched("bob", fetched or [])
    for message in log:
        recorded.received("carol", message)
    for name in ("alice", "bob", "carol"):
        recorded.log(name, "tea", log)
    return recorded


def kinds(recorded: History) -> set[str]:
    return {violation.kind for violation in recorded.judge()}


GOOD: dict[str, Callable[[], History]] = {
    "all": lambda: history(ALICE),
    "an unacked message that was kept": lambda: history(ALICE, acked=range(5)),
    "an unacked message that was not": lambda: history(ALICE[:5], log=ALICE[:5], acked=range(5)),
    "a gap that was announced and fetched": lambda: history(ALICE[:2], ALICE[4:], fetched=ALICE[1:5]),
    "all fetched": lambda: history([], [], fetched=ALICE),
    "received and fetched": lambda: history(ALICE[:2], ALICE[2:], fetched=ALICE),
}

BAD: dict[str, tuple[Callable[[], History], set[str]]] = {
    "lost at the end": (lambda: history(ALICE[:5]), {"gap", "lost"}),
    "lost at the beginning": (lambda: history(ALICE[1:]), {"gap", "lost"}),
    "lost on the way": (lambda: history(ALICE[:2] + ALICE[3:]), {"gap", "lost"}),
    "a silent gap that was fetched by chance": (lambda: history(ALICE[:2] + ALICE[3:], fetched=ALICE), {"gap"}),
    "an announced gap that nobody fetched": (lambda: history(ALICE[:2], ALICE[3:]), {"lost"}),
    "a gap within what came after": (lambda: history(ALICE[:2], ALICE[2:4] + ALICE[5:], fetched=ALICE), {"gap"}),
    "lost by the log": (lambda: history(ALICE[:5], log=ALICE[:5]), {"lost"}),
    "received and not kept": (lambda: history(ALICE, log=ALICE[:5], acked=range(5)), {"vanished"}),
    "fetched and not kept": (lambda: history(ALICE[:5], log=ALICE[:5], fetched=ALICE, acked=range(5)), {"vanished"}),
    "doubled at once": (lambda: history(ALICE[:3] + ALICE[2:]), {"doubled"}),
    "doubled by a replay": (lambda: history(ALICE + ALICE[:1]), {"doubled", "swapped"}),
    "doubled over an announced gap": (lambda: history(ALICE[:3], ALICE[2:]), {"doubled"}),
    "doubled by the log": (lambda: history(ALICE, log=[*ALICE, ALICE[0]]), {"doubled", "swapped", "gap"}),
    "swapped for one": (lambda: history([ALICE[1], ALICE[0], *ALICE[2:]]), {"swapped", "gap"}),
    "swapped for all": (
        lambda: history(*[[ALICE[1], ALICE[0], *ALICE[2:]]], log=[ALICE[1], ALICE[0], *ALICE[2:]]),
        {"swapped"},
    ),
    "invented for one": (
        lambda: history([*ALICE, Message("tea", "alice", "7", "text 7", 1007, "o-7")]),
        {"invented"},
    ),
    "invented for all": (lambda: history(ALICE, sent=5, acked=range(5)), {"invented"}),
    "altered": (
        lambda: history([*ALICE[:5], Message("tea", "alice", "5", "other words", 1005, "o-5")]),
        {"vanished", "gap", "lost"},
    ),
    "under another offset": (
        lambda: history([*ALICE[:5], Message("tea", "alice", "5", "text 5", 1005, "o-6")]),
        {"vanished", "gap", "lost"},
    ),
    "from a room of others": (
        lambda: history([*ALICE, Message("secret", "alice", "1", "text 1", 1001, "o-9")]),
        {"invented"},
    ),
}


def visit(
    *dave: list[int],
    fetched: list[int] | None = None,
    stay: tuple[int | None, int | None, int | None] = (1, 4, 4),
    bare: bool = False,
) -> History:
    """Dave visits while alice talks: he is in from before message `stay[0]` on, has surely all before `stay[1]`, and
    is out before `stay[2]`. What he received in each stretch, and what he fetched, are numbers of messages.
    """
    begun, seen, over = stay
    recorded = History()
    recorded.joined("alice", "tea")
    stays = None
    for number, message in enumerate(ALICE):
        if number == 1:
            stays = recorded.visit("dave", "tea")
        if stays is not None:
            stays.begun = recorded.tick() if number == begun else stays.begun
            stays.seen = recorded.tick() if number == seen else stays.seen
            stays.over = recorded.tick() if number == over else stays.over
        recorded.sent("alice", "tea", message.id, message.content)
        recorded.acked("alice", "tea", message.id, message.ts)
    for stretch, part in enumerate(dave):
        if stretch > 0:
            recorded.welcomed("dave", ["tea"], recovered=False)
        for number in part:
            if bare:
                recorded.received_content("dave", ALICE[number].content)
            else:
                recorded.received("dave", ALICE[number])
    recorded.refetched("dave", [ALICE[number] for number in fetched or []])
    recorded.log("alice", "tea", ALICE)
    return recorded


VISITS: dict[str, tuple[Callable[[], History], set[str]]] = {
    "all": (lambda: visit([1, 2, 3]), set()),
    "all, on the bare wire": (lambda: visit([1, 2, 3], bare=True), set()),
    "lost at the end": (lambda: visit([1, 2]), {"lost"}),
    "lost at the beginning": (lambda: visit([2, 3]), {"lost"}),
    "lost on the way": (lambda: visit([1, 3]), {"lost", "gap"}),
    "a silent gap that was fetched": (lambda: visit([1, 3], fetched=[2]), {"gap"}),
    "a gap that was announced and fetched": (lambda: visit([1], [3], fetched=[2]), set()),
    "a gap that was announced": (lambda: visit([1], [3]), {"lost"}),
    "doubled": (lambda: visit([1, 2, 2, 3]), {"doubled"}),
    "doubled, on the bare wire": (lambda: visit([1, 2, 2, 3], bare=True), {"doubled"}),
    "swapped": (lambda: visit([2, 1, 3]), {"swapped"}),
    "from before": (lambda: visit([0, 1, 2, 3]), {"early"}),
    "from after": (lambda: visit([1, 2, 3, 4]), {"late"}),
    "the ends are not sure": (lambda: visit([2], stay=(2, 3, None)), set()),
    "more than is sure": (lambda: visit([1, 2, 3, 4], stay=(2, 3, None)), set()),
    "nobody knows whether it began": (lambda: visit([], stay=(None, 4, None)), set()),
}


@pytest.mark.parametrize("name", VISITS)
def test_a_visit_is_judged_by_what_was_sent_while_it_lasted(name: str) -> None:
    """A visitor receives what was sent while it surely was a member, once, in order, and nothing else."""
    recorded, expected = VISITS[name]
    assert kinds(recorded()) == expected


def test_the_evidence_lists_what_a_client_went_through() -> None:
    """What happened to a client can be read, in order."""
    recorded = history(ALICE[:3], ALICE[3:])
    recorded.trace("bob", "is gone")
    recorded.received("bob", ALICE[5])
    first, second, third = recorded.evidence("bob").splitlines()
    assert first.split() == ["received", "tea", "0", "1", "2", "3", "4", "5"]
    assert second.endswith("is gone")
    assert third.split() == ["received", "tea", "5"]


@pytest.mark.parametrize("name", GOOD)
def test_a_correct_history_has_no_violations(name: str) -> None:
    """No violation is found where there is none."""
    assert GOOD[name]().judge() == []


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_history_has_its_violations(name: str) -> None:
    """Each kind of damage is found, and called by its name."""
    recorded, expected = BAD[name]
    assert kinds(recorded()) == expected


def test_an_ack_that_changes_is_a_violation() -> None:
    """The same id is acked with the reply of the first time."""
    recorded = history(ALICE)
    recorded.acked("alice", "tea", "3", ALICE[3].ts)
    assert kinds(recorded) == set()
    recorded.acked("alice", "tea", "3", 2000)
    assert kinds(recorded) == {"reacked"}


def test_members_who_read_different_logs_are_a_violation() -> None:
    """All members read one history."""
    recorded = history(ALICE)
    recorded.log("dave", "tea", ALICE[1:])
    assert kinds(recorded) == {"disagreed"}


def test_a_lost_room_is_a_violation() -> None:
    """A client that comes back is in the same rooms as before, recovered or not."""
    recorded = history(ALICE)
    recorded.welcomed("bob", [], recovered=True)
    assert kinds(recorded) == {"expelled"}


def test_an_unread_log_is_a_violation() -> None:
    """A run that read no log proves nothing."""
    recorded = History()
    recorded.joined("alice", "tea")
    assert kinds(recorded) == {"unread"}
