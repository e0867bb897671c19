"""The results as one Markdown table, and what has to be known to read it."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.scenarios import SCENARIOS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Key, Ratio, Results, Target
    from benchmarks.play import Scenario

SATURATED = 0.9
"""CPU seconds a second from which on a server has no time left."""


def table(results: Results) -> str:
    """A row for each figure; above the rows of a scenario, the names of its servers."""
    played = [scenario for scenario in SCENARIOS if results.keys(scenario.name)]
    columns = 2 + max((len(scenario.servers) for scenario in played), default=0)
    rows = [[" "] * columns, ["---"] + ["--:"] * (columns - 2) + ["---"]]
    for scenario in played:
        titles = _padded([scenario.title, *(kind.name for kind in scenario.servers)], "target", columns)
        rows.append([f"**{title}**" if title.strip() else " " for title in titles])
        rows += (_row(results, scenario, key, columns) for key in results.keys(scenario.name))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(results: Results, scenario: Scenario, key: Key, columns: int) -> list[str]:
    ours, *others = (kind.name for kind in scenario.servers)
    cells = [f"{key.case}: {key.figure.label}", _value(results, key, ours)]
    cells += (_beside(results, key, ours, other) for other in others)
    return _padded(cells, "<br>".join(_verdicts(results, scenario, key)), columns)


def _padded(cells: list[str], last: str, columns: int) -> list[str]:
    return [*cells, *[" "] * (columns - 1 - len(cells)), last or " "]


def _value(results: Results, key: Key, server: str) -> str:
    value = results.median(key, server)
    return "–" if value is None else key.figure.form.format(value)


def _beside(results: Results, key: Key, ours: str, other: str) -> str:
    value = _value(results, key, other)
    ratio = results.ratio(key, ours, other)
    if ratio is None:
        return " " if value == "–" else value
    return f"{value}<br>**× {ratio.median:.2f}** ({_rounds(ratio)})"


def _rounds(ratio: Ratio) -> str:
    return ", ".join(f"{one:.2f}" for one in ratio.per_round)


def _verdicts(results: Results, scenario: Scenario, key: Key) -> Iterator[str]:
    for target in TARGETS.get(key, ()):
        value = reached(results, scenario, key, target)
        if value is None:
            continue
        sign = "≥" if key.figure.more_is_better else "≤"
        bound = f"{target.bound:.2g} × {target.beside}" if target.beside else key.figure.form.format(target.bound)
        yield f"{sign} {bound} {'✓' if target.is_met(key, value) else '✗'}"


def reached(results: Results, scenario: Scenario, key: Key, target: Target) -> float | None:
    """What has to be compared with the target: a median ratio, or a median."""
    ours = scenario.servers[0].name
    if target.beside is None:
        return results.median(key, ours)
    ratio = results.ratio(key, ours, target.beside)
    return None if ratio is None else ratio.median


def notes(results: Results, *, machine: str, others: float, rounds: int, seconds: float) -> str:
    """What stands below the table."""
    lines = [
        f"Medians of {rounds} alternating round{'s' if rounds != 1 else ''}. Below a figure stands the ratio of the "
        "first column's to it: the median, and in brackets each round's. "
        "A latency is from the send to the last member who hears.",
        f"On {machine}. The load average was {others:.1f} before the run, which took {seconds / 60:.0f} minutes.",
        _generator_note(results),
        *_valkey_note(results),
        "Each message carries its sender and a number: that each member gets each message once, in order, "
        "is checked for every single one, and a server that fails has no figures.",
        *(f"**Failed:** {failure}" for failure in results.failures),
    ]
    return "\n".join(f"- {' '.join(line.split())}" for line in lines) + "\n"


def _generator_note(results: Results) -> str:
    """How it was checked that the generator is not the bottleneck."""
    saturated = [load for load in results.loads if load.server >= SATURATED]
    note = (
        "The server and the load generator have a core each, and both their CPU times are taken in each run. "
        f"In {len(saturated)} of {len(results.loads)} runs the server had no time left "
        f"(over {SATURATED:.0%} of its core)"
    )
    if saturated:
        typical = statistics.median(load.generator for load in saturated)
        note += f"; in these the generator used {typical:.0%} of its own (median)"
    busy = [load for load in results.loads if load.generator >= SATURATED]
    idle = [load for load in results.loads if load.generator < SATURATED]
    if idle:
        most = max(idle, key=lambda load: load.generator)
        note += f", and at most {most.generator:.0%} ({most.name}): it waited for the server, not the server for it"
    if busy:
        names = sorted({load.name.split(",")[0] for load in busy})
        note += (
            f". In {len(busy)} other runs ({', '.join(names)}) the generator had no time left either: what is said "
            "there by the second is what it can take; what is said by the CPU second is the server's all the same"
        )
    return f"{note}."


def _valkey_note(results: Results) -> Iterator[str]:
    """Where the Valkey server ran."""
    shares = [load.valkey for load in results.loads if load.valkey]
    if shares:
        yield (
            "Where there are several nodes, they share the first core. The Valkey server runs on the load generator's: "
            f"it does not wait for the nodes. It took {statistics.median(shares):.0%} of that core (median), and at "
            f"most {max(shares):.0%}. Each process's own CPU time is counted; what all of them do together by the "
            "second on two cores says little."
        )


def raw(results: Results) -> dict[str, Any]:
    """Every value, for other programs."""
    return {
        "figures": [
            {"scenario": key.scenario, "case": key.case, "figure": key.figure.label, "rounds": servers}
            for key, servers in results.values.items()
        ],
        "loads": [asdict(load) for load in results.loads],
        "failures": results.failures,
    }
