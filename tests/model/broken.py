"""Engines that break the contract, each in one way: what the model checker must notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.engines.base import Receipt
from gateway.engines.effects import Attachment, Effect, Movement, Publication, Subscriber
from gateway.rules.store import Store
from model.storage import START

Spoil = Callable[[list[Effect]], list[Effect]]

START_MS = int(START * 1000)


class SpoiledEffects:
    """An engine whose subscriber receives something else than was committed."""

    def __init__(self, engine: Store, spoil: Spoil) -> None:
        self._engine = engine
        self._spoil = spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def open(self, subscriber: Subscriber) -> None:
        await self._engine.open(_Spoiler(subscriber, self._spoil))


class _Spoiler:
    def __init__(self, subscriber: Subscriber, spoil: Spoil) -> None:
        self._subscriber = subscriber
        self._spoil = spoil

    def committed(self, effects: Sequence[Effect]) -> None:
        self._subscriber.committed(self._spoil(list(effects)))


class EarlyAcks(SpoiledEffects):
    """Messages are acked before they are kept."""

    def __init__(self, engine: Store) -> None:
        super().__init__(engine, lambda effects: effects)
        self._late: list[asyncio.Future[Any]] = []

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Any:
        sending = asyncio.ensure_future(self._engine.append_message(actor, room, content, message_id))
        if message_id is None:
            return await sending
        self._late.append(sending)
        await asyncio.wait([sending], timeout=0)
        return sending.result() if sending.done() else Receipt(message_id, START_MS, duplicate=False)


class ForgetfulOfIds(SpoiledEffects):
    """The same message id is appended each time."""

    def __init__(self, engine: Store) -> None:
        super().__init__(engine, lambda effects: effects)
        self._number = 0

    async def append_message(self, actor: str, room: str, content: str, message_id: str | None) -> Any:
        self._number += 1
        receipt = await self._engine.append_message(actor, room, content, message_id and f"{message_id}{self._number}")
        return receipt if message_id is None else replace(receipt, id=message_id)


def _without(event: str) -> Spoil:
    def spoil(effects: list[Effect]) -> list[Effect]:
        return [effect for effect in effects if not (isinstance(effect, Publication) and effect.event == event)]

    return spoil


def _replay(change: Callable[[tuple[Publication, ...]], tuple[Publication, ...]]) -> Spoil:
    def spoil(effects: list[Effect]) -> list[Effect]:
        return [
            replace(effect, missed=change(effect.missed)) if isinstance(effect, Attachment) else effect
            for effect in effects
        ]

    return spoil


def _backwards(effects: list[Effect]) -> list[Effect]:
    if all(isinstance(effect, Publication) for effect in effects):
        return effects[::-1]
    return effects


def _to_the_author_too(effects: list[Effect]) -> list[Effect]:
    return [replace(effect, author=None) if isinstance(effect, Publication) else effect for effect in effects]


def _ignore_leaving(effects: list[Effect]) -> list[Effect]:
    return [replace(effect, left=()) if isinstance(effect, Movement) else effect for effect in effects]


def _never_recovered(effects: list[Effect]) -> list[Effect]:
    return [
        replace(effect, recovered=False, missed=()) if isinstance(effect, Attachment) else effect for effect in effects
    ]


BROKEN: dict[str, Callable[[Store], Any]] = {
    "acks before the commit": EarlyAcks,
    "forgets ids": ForgetfulOfIds,
    **{
        f"publishes no {event}": lambda engine, event=event: SpoiledEffects(engine, _without(event))
        for event in ("message", "room-joined", "user-joined", "user-left", "presence", "typing")
    },
    "replays all but the last": lambda engine: SpoiledEffects(engine, _replay(lambda missed: missed[:-1])),
    "replays the last twice": lambda engine: SpoiledEffects(engine, _replay(lambda missed: missed + missed[-1:])),
    "replays backwards": lambda engine: SpoiledEffects(engine, _replay(lambda missed: missed[::-1])),
    "publishes backwards": lambda engine: SpoiledEffects(engine, _backwards),
    "publishes to the author": lambda engine: SpoiledEffects(engine, _to_the_author_too),
    "publishes to those who left": lambda engine: SpoiledEffects(engine, _ignore_leaving),
    "never recovers": lambda engine: SpoiledEffects(engine, _never_recovered),
}
