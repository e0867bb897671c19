"""What was measured: figures by scenario, case and server, one value a round, and the comparisons made of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum


class Figure(Enum):
    """What a number says: its name, how it is written down, and whether more of it is better."""

    DELIVERIES_PER_CPU = ("deliveries / CPU s", "{:,.0f}", True)
    DELIVERIES_PER_SECOND = ("deliveries / s", "{:,.0f}", True)
    MESSAGES_PER_CPU = ("messages / CPU s", "{:,.0f}", True)
    MESSAGES_PER_SECOND = ("messages / s", "{:,.0f}", True)
    MESSAGES_PER_CPU_OF_ALL = ("messages / CPU s, Valkey's included", "{:,.0f}", True)
    VALKEY_PER_MESSAGE = ("Valkey's CPU / message", "{:.1f} µs", False)
    SCRIPTS_PER_MESSAGE = ("Valkey's time in scripts / message", "{:.1f} µs", False)
    LATENCY_P50 = ("latency, p50", "{:.2f} ms", False)
    LATENCY_P99 = ("latency, p99", "{:.2f} ms", False)
    LAST_MEMBER = ("last member has it, p50", "{:.2f} ms", False)
    HANDSHAKES_PER_CPU = ("handshakes / CPU s", "{:,.0f}", True)
    VALKEY_PER_HANDSHAKE = ("Valkey's CPU / handshake", "{:.0f} µs", False)
    MEMORY = ("memory / connection", "{:.1f} KiB", False)
    VALKEY_MEMORY = ("Valkey's memory / connection", "{:.1f} KiB", False)
    MESSAGE_MEMORY = ("Valkey's memory / message", "{:.2f} KiB", False)
    ROOM_MEMORY = ("Valkey's memory / room", "{:.1f} KiB", False)
    IDLE_CPU = ("CPU, idle", "{:.2f} %", False)
    VALKEY_IDLE_CPU = ("Valkey's CPU, idle", "{:.2f} %", False)
    BYSTANDER_CPU = ("CPU of the node without clients", "{:.2f} %", False)
    LAG_P99 = ("loop lag, p99", "{:.1f} ms", False)
    LONGEST_PAUSE = ("longest pause", "{:.1f} ms", False)

    def __init__(self, label: str, form: str, more_is_better: bool) -> None:
        self.label = label
        self.form = form
        self.more_is_better = more_is_better


@dataclass(frozen=True, slots=True)
class Key:
    """What can be compared between servers."""

    scenario: str
    case: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Target:
    """``bound`` for the ratio to ``beside``, or for the figure itself where that is None."""

    bound: float
    beside: str | None = None

    def is_met(self, key: Key, value: float) -> bool:
        return value >= self.bound if key.figure.more_is_better else value <= self.bound


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of one server's figure to another's: in each round, and their median."""

    per_round: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.per_round)


@dataclass(frozen=True, slots=True)
class Load:
    """How busy both sides were in a run: CPU seconds a second."""

    name: str
    server: float
    generator: float
    valkey: float = 0.0


@dataclass(slots=True)
class Results:
    """All rounds of all scenarios."""

    values: dict[Key, dict[str, dict[int, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """By key, server and round."""
    loads: list[Load] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, key: Key, server: str, round_: int, value: float) -> None:
        self.values[key][server][round_] = value

    def keys(self, scenario: str) -> list[Key]:
        return [key for key in self.values if key.scenario == scenario]

    def median(self, key: Key, server: str) -> float | None:
        """None where the server has failed, or was not asked."""
        values = self.values[key].get(server)
        return statistics.median(values.values()) if values else None

    def ratio(self, key: Key, server: str, beside: str) -> Ratio | None:
        """None where no round has both."""
        ours, theirs = (self.values[key].get(name, {}) for name in (server, beside))
        per_round = tuple(ours[round_] / theirs[round_] for round_ in ours if theirs.get(round_))
        return Ratio(per_round) if per_round else None
