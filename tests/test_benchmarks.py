"""The benchmarks run from end to end. Their figures mean nothing here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import tools
from benchmarks.generator import Failed, Generator
from benchmarks.servers import HERE, Kind, Server

ROOT = Path(__file__).parent.parent
SENDING = "send_all(members[i], frame, frame_size);"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the load generator is made of epoll"),
    pytest.mark.skipif(not shutil.which("cc") and not find_spec("ziglang"), reason="there is no C compiler"),
]


@pytest.mark.parametrize(
    ("mistake", "noticed"),
    [
        ("if (position != 20 || i != 3) {sending}", "3 got message 20 of 0 where 19 was next"),
        ("{sending} if (position == 20 && i == 3) {sending}", "3 got message 19 of 0 where 20 was next"),
        ("if (position == 20 && i == 3) { int i = 0; {sending} } {sending}", "0 got a message of 0"),
        ("if (position != 20) {sending} else if (i == 3) exit(1);", "was lost"),
    ],
    ids=["loses one", "doubles one", "sends one back", "dies"],
)
def test_a_broken_server_yields_no_figures(tmp_path: Path, mistake: str, noticed: str) -> None:
    """One wrong delivery of many, to one member, is enough."""
    right = (HERE / "peers" / "send_loop.c").read_text()
    assert right.count(SENDING) == 1
    source = tmp_path / "broken.c"
    source.write_text(right.replace(SENDING, f"{{{mistake.replace('{sending}', SENDING)}}}"))
    broken = Kind("broken", lambda _: [str(tools.compiled(source))])
    with Server(broken) as server, Generator(server) as generator:
        generator.connect(5)
        generator.make_rooms(1, 5)
        with pytest.raises(Failed, match=noticed):
            run_until_it_fails(generator)


def run_until_it_fails(generator: Generator) -> None:
    """A busy machine takes longer to come to the twentieth message."""
    for seconds in (0.2, 1, 5, 25):
        generator.run(window=4, seconds=seconds)


def test_a_script_that_starts_node_is_not_mistaken_for_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be killed instead of Node, in every environment."""
    script = tmp_path / "node"
    script.write_text("#!/bin/sh\necho v99.0.0\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    tools.node.cache_clear()
    assert tools.node() != script


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("arguments", "servers", "scenarios"),
    [
        ([], ("gateway", "Node", "stock", "send()", "plain wire", "in memory", "off"), 9),
        (["--only", "two-nodes"], ("gateway", "gateway, everysec", "redis", "sharded", "streams", "manager"), 1),
    ],
    ids=["one server", "nodes on Valkey"],
)
def test_the_benchmarks_run_to_the_end(
    tmp_path: Path, arguments: list[str], servers: tuple[str, ...], scenarios: int
) -> None:
    """Every scenario is played by every server, each message arrives, and there is a table, a chart and the values."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--output", str(tmp_path), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "table.md").read_text()
    assert table in done.stdout
    for server in servers:
        assert f"**{server}**" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    ET.parse(tmp_path / "ratios.svg")  # noqa: S314 - it is our own
    values = json.loads((tmp_path / "values.json").read_text())
    assert len({figure["scenario"] for figure in values["figures"]}) == scenarios
    assert not values["failures"]
