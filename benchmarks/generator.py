"""The load generator, `load.c`, as an object: its commands, and what it measured."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any, Self

from benchmarks import tools
from benchmarks.servers import GENERATOR_CORE, HERE, Server, pinned


class Failed(Exception):
    """A server lost, doubled or mixed up something, or refused it: there are no figures of it."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Seconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was done, in how many seconds, and the CPU seconds of all threads of the server, and of ours.

    ``server_cpu``: of all nodes that have clients; ``bystander_cpu``: of those that have none.
    """

    seconds: float
    server_cpu: float
    bystander_cpu: float
    valkey_cpu: float
    generator_cpu: float
    connections: int = 0
    messages: int = 0
    deliveries: int = 0
    latency: Distribution | None = None
    lag: Distribution | None = None


class Generator:
    """Clients of one server, spread over its nodes: the members of a room are on different ones.

    Any call raises `Failed` where the server does not do what a chat must.

    ``probe``, where a call has it: seconds between two measurements of the server's lag (0: none).
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        kind = server.kind
        welcome = {"LOAD_WELCOME": "1"} if kind.sends_welcome else {}
        ports = ",".join(str(node.port) for node in server.nodes)
        measured = [*server.nodes, *server.bystanders, *([server.valkey] if server.valkey else [])]
        pids = ",".join(str(each.pid) for each in measured)
        self._process = subprocess.Popen(
            [tools.compiled(HERE / "load.c"), kind.wire, ports, pids],
            env={**os.environ, **welcome},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            preexec_fn=pinned(GENERATOR_CORE),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def connect(self, total: int, *, parallel: int = 64, probe: float = 0) -> Measured:
        """Log in until there are ``total`` connections, a batch at a time."""
        return self._measured(self._command(f"connect {total} {parallel} {1000 * probe}"))

    def make_rooms(self, count: int, members: int) -> None:
        """Put the first connections into new rooms."""
        self._command(f"rooms {count} {members}")

    def run(
        self,
        *,
        senders: int = 1,
        window: int = 64,
        size: int = 64,
        seconds: float,
        rate: float = 0,
        probe: float = 0,
    ) -> Measured:
        """``senders`` members of each room send messages of ``size`` bytes, ``window`` of them in flight.

        ``rate``: messages a second in all (0: as fast as they arrive).
        """
        return self._measured(self._command(f"run {senders} {window} {size} {seconds} {rate} {1000 * probe}"))

    def idle(self, seconds: float) -> Measured:
        """Reply to heartbeats, and to nothing else."""
        return self._measured(self._command(f"idle {seconds}"))

    def _command(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        reply = self._process.stdout.readline()
        result: dict[str, Any] = json.loads(reply) if reply else {"error": "the load generator has ended"}
        if "error" in result:
            raise Failed(f"{self._server.kind.name}, {line!r}: {result['error']}\n{self._server.log()}")
        return result

    def _measured(self, result: dict[str, Any]) -> Measured:
        distributions = {
            name: Distribution(**{key: value for key, value in result.pop(name).items() if key != "count"})
            for name in ("latency", "lag")
            if name in result
        }
        cpu, nodes, bystanders = result.pop("cpu"), len(self._server.nodes), len(self._server.bystanders)
        return Measured(
            **result,
            **distributions,
            server_cpu=sum(cpu[:nodes]),
            bystander_cpu=sum(cpu[nodes : nodes + bystanders]),
            valkey_cpu=sum(cpu[nodes + bystanders :]),
        )
