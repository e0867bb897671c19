"""`python -m benchmarks`: start the servers one after the other, load them, and report how they compare."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks import chart, machine, report, tools
from benchmarks.figures import Results
from benchmarks.play import FULL, QUICK, play_once
from benchmarks.scenarios import SCENARIOS, TARGETS

if TYPE_CHECKING:
    from benchmarks.play import Scale, Scenario

NAMES = [scenario.name for scenario in SCENARIOS]


@click.command("benchmarks", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="One short round with few clients, to see that everything works.")
@click.option("--cluster", is_flag=True, help="The scenarios of several nodes on Valkey, in place of the others.")
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="This scenario; may be given several times.")
@click.option(
    "--rounds", type=click.IntRange(min=1), help="How often each server has its turn.  [default: 3; 1 if quick]"
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for table.md, ratios.svg and values.json.  [default: one in the user's cache]",
)
def main(*, quick: bool, cluster: bool, only: tuple[str, ...], rounds: int | None, output: Path | None) -> None:
    """The gateway beside stock python-socketio, Socket.IO on Node, and a bare loop of send(); with --cluster, several
    nodes on a Valkey server beside what connects theirs.
    """
    folder = output or tools.cache() / "results"
    folder.mkdir(parents=True, exist_ok=True)
    scenarios = [
        scenario for scenario in SCENARIOS if (scenario.name in only if only else scenario.on_valkey == cluster)
    ]
    results = Results()
    rounds = rounds or (1 if quick else 3)
    others = machine.others_at_work()
    description = machine.describe(cluster=any(scenario.on_valkey for scenario in scenarios))
    started = time.monotonic()
    for scenario in scenarios:
        play(scenario, rounds, QUICK if quick else FULL, results)
        if not quick:  # the targets are for the full sizes
            missing = [key for key in TARGETS if key.scenario == scenario.name and key not in results.values]
            results.failures += [f"there is no figure for the target of {key}" for key in missing]
        about = report.notes(
            results, machine=description, others=others, rounds=rounds, seconds=time.monotonic() - started
        )
        text = f"{report.table(results)}\n{about}"
        (folder / "table.md").write_text(text)
        (folder / "ratios.svg").write_text(chart.svg(results))
        (folder / "values.json").write_text(json.dumps(report.raw(results), indent=1) + "\n")
    print(text)
    print(f"Written to {folder}: table.md, ratios.svg, values.json")
    sys.exit(1 if results.failures else 0)


def play(scenario: Scenario, rounds: int, scale: Scale, results: Results) -> None:
    """All rounds of a scenario. The servers alternate, so that a disturbance of the machine affects all of them."""
    for round_ in range(1, rounds + 1):
        for kind in scenario.servers:
            begun = time.monotonic()
            play_once(scenario, round_, kind, scale, results)
            took = time.monotonic() - begun
            print(f"{scenario.name}, round {round_}: {kind.name}, {took:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
