"""What the servers do. In every round, each scenario is run on one of its servers after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import cluster
from benchmarks.figures import Figure, Key, Target
from benchmarks.play import PAIRS, Scenario
from benchmarks.servers import (
    GATEWAY,
    IN_MEMORY,
    NODE,
    ON_DISK,
    PLAIN,
    SEND_LOOP,
    SOCKETIO,
    STOCK,
    STORELESS,
)

if TYPE_CHECKING:
    from benchmarks.play import Play

PROBE = 0.005
"""Seconds between two measurements of the loop's lag."""


def play_fan_out(play: Play) -> None:
    smaller, larger = play.scale.clients(1_000), play.scale.clients(5_000)
    play.generator.connect(larger)
    for members in (smaller, larger):
        play.generator.make_rooms(1, members)
        for size in (64, 1024):
            play.fan_out(members, size)
    case = f"room of {larger:,}, one message at a time"
    measured = play.generator.run(senders=1, window=1, seconds=play.scale.seconds)
    if measured.latency is not None:
        play.note(case, Figure.LAST_MEMBER, 1000 * measured.latency.p50)


def play_pairs(play: Play) -> None:
    play.generator.connect(2 * play.scale.clients(PAIRS))
    play.pairs()


def play_busy_rooms(play: Play) -> None:
    rooms, members = play.scale.clients(100), play.scale.clients(50)
    play.generator.connect(rooms * members)
    play.busy(1, min(play.scale.clients(200), rooms * members))
    play.busy(rooms, members)


def play_connections(play: Play) -> None:
    """The first fifth warms the server up."""
    total = play.scale.clients(5_000)
    play.generator.connect(total // 5)
    play.generator.idle(play.scale.settling)
    play.connect(f"{total:,} connections", total)


def play_variant(play: Play) -> None:
    """The same on each wire and each store, side by side."""
    members = play.scale.clients(1_000)
    play.generator.connect(members)
    play.generator.make_rooms(1, members)
    play.fan_out(members)
    play.pairs()
    play.busy(1, play.scale.clients(200))


def play_growing_rooms(play: Play) -> None:
    sizes = dict.fromkeys(play.scale.clients(members) for members in (10, 100, 1_000, 5_000))
    play.generator.connect(max(sizes))
    for members in sizes:
        play.generator.make_rooms(1, members)
        play.fan_out(members)


def play_growing_crowd(play: Play) -> None:
    for number in (1_000, 5_000, 10_000):
        total = play.scale.clients(number)
        case = f"{total:,} connections"
        play.connect(case, total)
        play.pairs(case)


def play_pauses(play: Play) -> None:
    """While some talk at an easy pace, and while others come: does the loop, or its garbage collection, ever stall?"""
    crowd, more = play.scale.clients(9_000), play.scale.clients(10_000)
    play.generator.connect(crowd)
    play.generator.make_rooms(play.scale.clients(PAIRS), 2)
    talking = play.generator.run(senders=2, rate=500, probe=PROBE, seconds=2 * play.scale.seconds)
    play.lag(f"{crowd:,} connections, 500 messages / s", talking)
    coming = play.generator.connect(more, parallel=2, probe=PROBE)
    play.lag(f"{crowd:,} connections, {more - crowd:,} more log in", coming)
    play.generator.idle(play.scale.settling)
    idle = play.generator.idle(play.scale.idle)
    play.note(f"{more:,} connections, heartbeats", Figure.IDLE_CPU, 100 * idle.server_cpu / idle.seconds)


SCENARIOS = (
    Scenario("fan-out", "Fan-out: one member sends to a room", (GATEWAY, NODE, STOCK, SEND_LOOP), play_fan_out),
    Scenario("pairs", "Rooms of two, 64 messages in flight", (GATEWAY, NODE, STOCK), play_pairs),
    Scenario("busy-rooms", "Busy rooms, 64 messages in flight", (GATEWAY, NODE, STOCK), play_busy_rooms),
    Scenario("connections", "Connections, logged in and idle", (GATEWAY, NODE, STOCK), play_connections),
    Scenario("wires", "Our two wires", (PLAIN, SOCKETIO), play_variant),
    Scenario("stores", "Our stores", (ON_DISK, IN_MEMORY, STORELESS), play_variant),
    Scenario("growing-rooms", "How fan-out grows with the room", (GATEWAY, NODE, STOCK), play_growing_rooms),
    Scenario("growing-crowd", "How it goes as connections grow", (GATEWAY, NODE, STOCK), play_growing_crowd),
    Scenario("pauses", "Pauses and idling", (GATEWAY, NODE), play_pauses),
    *cluster.SCENARIOS,
)  # fmt: skip


def _fan_out_targets() -> dict[Key, tuple[Target, ...]]:
    cases = [f"room of {members}, {size}" for members in ("1,000", "5,000") for size in ("64 B", "1 KiB")]
    beside = (Target(1.3, NODE.name), Target(8, STOCK.name), Target(0.6, SEND_LOOP.name))
    return {Key("fan-out", case, Figure.DELIVERIES_PER_CPU): beside for case in cases}


def _pause_targets() -> dict[Key, tuple[Target, ...]]:
    bounds = {Figure.LAG_P99: 20, Figure.LONGEST_PAUSE: 50}
    cases = [f"9,000 connections, {what}" for what in ("500 messages / s", "1,000 more log in")]
    return {Key("pauses", case, figure): (Target(bound),) for case in cases for figure, bound in bounds.items()}


TARGETS: dict[Key, tuple[Target, ...]] = {
    **_fan_out_targets(),
    Key("fan-out", "room of 5,000, one message at a time", Figure.LAST_MEMBER): (Target(1, NODE.name),),
    Key("pairs", "200 rooms of two", Figure.MESSAGES_PER_CPU): (Target(1.5, NODE.name), Target(6, STOCK.name)),
    Key("pairs", "200 rooms of two", Figure.LATENCY_P99): (Target(1, NODE.name),),
    Key("busy-rooms", "one room of 200, all sending", Figure.DELIVERIES_PER_CPU): (Target(2, NODE.name),),
    Key("busy-rooms", "100 rooms of 50, all sending", Figure.DELIVERIES_PER_CPU): (Target(2, NODE.name),),
    Key("connections", "5,000 connections", Figure.HANDSHAKES_PER_CPU): (Target(2, NODE.name),),
    Key("connections", "5,000 connections", Figure.MEMORY): (Target(8), Target(1 / 3, NODE.name)),
    **_pause_targets(),
    Key("pauses", "10,000 connections, heartbeats", Figure.IDLE_CPU): (Target(1),),
    **cluster.TARGETS,
}
"""What the gateway is to reach at the full sizes, as medians of one run's rounds."""
