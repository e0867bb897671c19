"""Playing a scenario on one server, and measuring what is reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Key, Load, Results
from benchmarks.generator import Failed, Generator
from benchmarks.servers import Kind, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.generator import Measured

FAN_OUT_WINDOW = 4
"""Messages of the one sender in flight: the server always has the next one, and no buffer fills up."""

IN_FLIGHT = 64
"""Messages in flight where many send."""

PAIRS = 200


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how large. ``seconds`` are measured after ``warm_up``; numbers of clients are divided."""

    seconds: float = 2.5
    warm_up: float = 0.75
    settling: float = 3.0
    idle: float = 26.0  # longer than --ping-interval: each connection has its heartbeat
    others: float = 10.0  # while others are busy
    divisor: int = 1

    def clients(self, number: int) -> int:
        return max(2, number // self.divisor)


FULL = Scale()
QUICK = Scale(seconds=0.25, warm_up=0.05, settling=0.1, idle=0.1, others=0.2, divisor=50)


@dataclass(frozen=True, slots=True)
class Play:
    """One scenario on one server, in one round."""

    scenario: str
    round: int
    server: Server
    generator: Generator
    scale: Scale
    results: Results

    def note(self, case: str, figure: Figure, value: float) -> None:
        self.results.add(Key(self.scenario, case, figure), self.server.kind.name, self.round, value)

    def measure(self, case: str, *, senders: int, window: int, size: int = 64) -> Measured:
        """Warm up and run."""
        run = self.generator.run
        run(senders=senders, window=window, size=size, seconds=self.scale.warm_up)
        if self.server.valkey is not None:
            self.server.valkey.reset_statistics()
        measured = run(senders=senders, window=window, size=size, seconds=self.scale.seconds)
        self.results.loads.append(
            Load(
                f"{self.server.kind.name}, {self.scenario}, {case}",
                measured.server_cpu / measured.seconds,
                measured.generator_cpu / measured.seconds,
                measured.valkey_cpu / measured.seconds,
            )
        )
        return measured

    def fan_out(self, members: int, size: int = 64) -> None:
        """Send to the newest room with that many members, from one of them."""
        case = f"room of {members:,}, {size_name(size)}"
        measured = self.measure(case, senders=1, window=FAN_OUT_WINDOW, size=size)
        self.note(case, Figure.DELIVERIES_PER_CPU, measured.deliveries / measured.server_cpu)
        self.note(case, Figure.DELIVERIES_PER_SECOND, measured.deliveries / measured.seconds)

    def pairs(self, case: str = "") -> None:
        rooms = self.scale.clients(PAIRS)
        case = case or f"{rooms:,} rooms of two"
        self.generator.make_rooms(rooms, 2)
        measured = self.measure(case, senders=2, window=IN_FLIGHT)
        self.note(case, Figure.MESSAGES_PER_CPU, measured.messages / measured.server_cpu)
        if measured.latency is not None:
            self.note(case, Figure.LATENCY_P50, 1000 * measured.latency.p50)
            self.note(case, Figure.LATENCY_P99, 1000 * measured.latency.p99)

    def busy(self, rooms: int, members: int) -> None:
        case = f"{f'{rooms:,} rooms' if rooms > 1 else 'one room'} of {members:,}, all sending"
        self.generator.make_rooms(rooms, members)
        measured = self.measure(case, senders=members, window=IN_FLIGHT)
        self.note(case, Figure.DELIVERIES_PER_CPU, measured.deliveries / measured.server_cpu)

    def lag(self, case: str, measured: Measured) -> None:
        if measured.lag is not None:
            self.note(case, Figure.LAG_P99, 1000 * measured.lag.p99)
            self.note(case, Figure.LONGEST_PAUSE, 1000 * measured.lag.max)

    def connect(self, case: str, total: int) -> Measured:
        """Open more connections: what a handshake costs, and how much memory an idle connection takes."""
        before = self.server.resident_memory()
        measured = self.generator.connect(total)
        self.generator.idle(self.scale.settling)
        kept = self.server.resident_memory() - before
        self.note(case, Figure.HANDSHAKES_PER_CPU, measured.connections / measured.server_cpu)
        self.note(case, Figure.MEMORY, kept / measured.connections / 1024)
        return measured


@dataclass(frozen=True, slots=True)
class Scenario:
    """``servers``: the first is compared with each of the others."""

    name: str
    title: str
    servers: tuple[Kind, ...]
    play: Callable[[Play], None]

    @property
    def on_valkey(self) -> bool:
        return any(kind.fsync for kind in self.servers)


def size_name(size: int) -> str:
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def play_once(scenario: Scenario, round_: int, kind: Kind, scale: Scale, results: Results) -> None:
    """One server, fresh from its start. Where it fails, what it reached before counts, and the failure is noted."""
    with Server(kind) as server, Generator(server) as generator:
        try:
            scenario.play(Play(scenario.name, round_, server, generator, scale, results))
        except Failed as failure:
            results.failures.append(f"{scenario.name}, round {round_}: {failure}")
