"""Several nodes on one Valkey server: what they do, and what is to be reached."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Figure, Key, Target
from benchmarks.play import IN_FLIGHT, PAIRS, Scenario
from benchmarks.servers import GATEWAY, MANAGER, ON_VALKEY, REDIS, SHARDED, STREAMS, SYNCED_LATER

if TYPE_CHECKING:
    from benchmarks.generator import Measured
    from benchmarks.play import Play

MANY_IN_FLIGHT: Final = 256
"""Messages in flight where batches are to be large."""

ELSEWHERE: Final = 5_000
"""Messages a second, at most, while a node without clients is measured."""

MICROSECONDS: Final = 1_000_000

ONE_NODE: Final = replace(ON_VALKEY, name="1 node")
TWO_NODES: Final = replace(ON_VALKEY, name="2 nodes", nodes=2)
FOUR_NODES: Final = replace(ON_VALKEY, name="4 nodes", nodes=4)
EVERYSEC: Final = replace(SYNCED_LATER, name="1 node, everysec")
ON_SQLITE: Final = replace(GATEWAY, name="SQLite")
PEERS: Final = (REDIS, SHARDED, STREAMS, MANAGER)
ALONE: Final = (ON_VALKEY, SYNCED_LATER, *PEERS)
IN_PAIRS: Final = tuple(replace(kind, nodes=2) for kind in ALONE)
WITH_BYSTANDER: Final = tuple(replace(kind, bystanders=1) for kind in (ON_VALKEY, REDIS, SHARDED, STREAMS))
"""Without python-socketio's manager: until a node has had a client, it listens to nothing."""


def play_nodes(play: Play) -> None:
    rooms = play.scale.clients(PAIRS)
    play.generator.connect(2 * rooms)
    play.generator.make_rooms(rooms, 2)
    case = f"{rooms:,} rooms of two"
    talk(play, case, IN_FLIGHT)
    window = play.scale.clients(MANY_IN_FLIGHT)
    talk(play, f"{case}, {window} in flight", window)
    talk(play, f"{case}, one message at a time", 1)
    play.busy(1, play.scale.clients(PAIRS))


def play_peers(play: Play) -> None:
    rooms = play.scale.clients(PAIRS)
    play.generator.connect(2 * rooms)
    play.generator.make_rooms(rooms, 2)
    talk(play, f"{rooms:,} rooms of two", IN_FLIGHT)
    play.busy(1, play.scale.clients(PAIRS))


def talk(play: Play, case: str, window: int) -> None:
    """Send in the newest rooms, which are of two."""
    measured = play.measure(case, senders=2, window=window)
    play.note(case, Figure.MESSAGES_PER_CPU, measured.messages / measured.server_cpu)
    note_valkey(play, case, measured)
    if measured.latency is not None:
        play.note(case, Figure.LATENCY_P50, 1000 * measured.latency.p50)
        play.note(case, Figure.LATENCY_P99, 1000 * measured.latency.p99)


def note_valkey(play: Play, case: str, measured: Measured) -> None:
    """What messages took of both, and of the Valkey server where there is one."""
    of_all = measured.server_cpu + measured.valkey_cpu
    play.note(case, Figure.MESSAGES_PER_CPU_OF_ALL, measured.messages / of_all)
    if play.server.valkey is not None:
        play.note(case, Figure.VALKEY_PER_MESSAGE, MICROSECONDS * measured.valkey_cpu / measured.messages)
        if in_scripts := play.server.valkey.time_in_scripts():
            play.note(case, Figure.SCRIPTS_PER_MESSAGE, MICROSECONDS * in_scripts / measured.messages)


def play_crowd(play: Play) -> None:
    """Log in, make rooms, do nothing, send: what it takes of the nodes and of the server, and what that keeps.

    The first fifth of the connections warms them up.
    """
    total = play.scale.clients(5_000)
    play.generator.connect(total // 5)
    play.generator.idle(play.scale.settling)
    before = valkey_memory(play)
    case = f"{total:,} connections"
    measured = play.connect(case, total)
    note_kept(play, case, Figure.VALKEY_MEMORY, valkey_memory(play) - before, measured.connections)
    if play.server.valkey is not None:
        per_handshake = MICROSECONDS * measured.valkey_cpu / measured.connections
        play.note(case, Figure.VALKEY_PER_HANDSHAKE, per_handshake)
    rooms, before = total // 2, valkey_memory(play)
    play.generator.make_rooms(rooms, 2)
    case = f"{rooms:,} rooms of two"
    note_kept(play, case, Figure.ROOM_MEMORY, valkey_memory(play) - before, rooms)
    idle = play.generator.idle(play.scale.idle)
    case = f"{case}, nobody sends"
    play.note(case, Figure.IDLE_CPU, 100 * idle.server_cpu / idle.seconds)
    if play.server.valkey is not None:
        play.note(case, Figure.VALKEY_IDLE_CPU, 100 * idle.valkey_cpu / idle.seconds)
    before = valkey_memory(play)
    sent = play.generator.run(senders=2, window=IN_FLIGHT, seconds=play.scale.seconds)
    case = f"{rooms:,} rooms of two, the first few messages of each"
    note_kept(play, case, Figure.MESSAGE_MEMORY, valkey_memory(play) - before, sent.messages)


def valkey_memory(play: Play) -> int:
    """Bytes; 0 where there is no Valkey server."""
    return 0 if play.server.valkey is None else play.server.valkey.memory()


def note_kept(play: Play, case: str, figure: Figure, kept: int, number: int) -> None:
    if play.server.valkey is not None:
        play.note(case, figure, kept / number / 1024)


def play_bystander(play: Play) -> None:
    """One node has all the clients, another has none: what does it cost to be in the same cluster?"""
    rooms = play.scale.clients(PAIRS)
    play.generator.connect(2 * rooms)
    play.generator.make_rooms(rooms, 2)
    window = play.scale.clients(MANY_IN_FLIGHT)
    play.generator.run(senders=2, window=window, seconds=play.scale.warm_up)
    busy = play.generator.run(senders=2, window=window, seconds=play.scale.others, rate=ELSEWHERE)
    play.note("while others send", Figure.MESSAGES_PER_SECOND, busy.messages / busy.seconds)
    play.note("while others send", Figure.BYSTANDER_CPU, 100 * busy.bystander_cpu / busy.seconds)
    idle = play.generator.idle(play.scale.others)
    play.note("while nobody sends", Figure.BYSTANDER_CPU, 100 * idle.bystander_cpu / idle.seconds)


SCENARIOS: Final = (
    Scenario("nodes", "Nodes on one Valkey server, 64 messages in flight",
             (ONE_NODE, ON_SQLITE, EVERYSEC, TWO_NODES, FOUR_NODES), play_nodes),
    Scenario("one-node", "One node on Valkey", ALONE, play_peers),
    Scenario("two-nodes", "Two nodes on one Valkey server", IN_PAIRS, play_peers),
    Scenario("crowd", "Logged in, and at rest", (ONE_NODE, ON_SQLITE), play_crowd),
    Scenario("bystander", "A second node, without clients", WITH_BYSTANDER, play_bystander),
)  # fmt: skip

CASE: Final = "200 rooms of two"
TARGETS: Final = {
    Key("nodes", CASE, Figure.MESSAGES_PER_CPU): (Target(0.7, ON_SQLITE.name),),
    Key("nodes", f"{CASE}, {MANY_IN_FLIGHT} in flight", Figure.VALKEY_PER_MESSAGE): (Target(20),),
    Key("one-node", CASE, Figure.MESSAGES_PER_CPU_OF_ALL): (Target(2, STREAMS.name),),
    Key("two-nodes", CASE, Figure.MESSAGES_PER_CPU_OF_ALL): (Target(2, STREAMS.name),),
    Key("bystander", "while others send", Figure.BYSTANDER_CPU): (Target(1),),
}
