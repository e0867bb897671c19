"""The system clock is set while the gateway runs: no window changes, and no message is older than the last."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.client import make_room, succeed

if TYPE_CHECKING:
    from harness.client import Join
    from harness.process import StartGateway

WINDOW = 4
DAY = 86_400

COMPILER = shutil.which("cc")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None, reason="sets a process's clock with a library that it compiles"
)


class WallClock:
    """The time of day for processes that are started now."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file, library = folder / "clock", folder / "wallclock.so"
        source = Path(__file__).parent / "harness" / "wallclock.c"
        subprocess.run([COMPILER or "cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.set(0)
        monkeypatch.setenv("WALLCLOCK_FILE", str(self._file))
        monkeypatch.setenv("LD_PRELOAD", str(library))

    def set(self, seconds: int) -> None:
        """Set the clock that many seconds from the right time."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


@pytest.mark.parametrize("step", [DAY, -DAY])
async def test_setting_the_clock_neither_ends_nor_prolongs_a_session(
    start_gateway: StartGateway, join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each suspended session has the window it was promised, and a message is never older than the one before it."""
    clock = WallClock(tmp_path, monkeypatch)
    own = await start_gateway(on_disk=True, recovery_window=WINDOW)
    alice, bob, carol = [await join("json", to=own) for _ in range(3)]
    room = await make_room(alice, bob, carol)
    times = [(await succeed(alice, "send-msg", room=room, content="before"))["ts"]]
    await carol.drop()
    assert (await alice.next_event("presence")).fields["username"] == carol.username
    await asyncio.sleep(WINDOW / 2)  # so that one window ends before the other
    await bob.drop()
    assert (await alice.next_event("presence")).fields["username"] == bob.username
    clock.set(step)
    times.append((await succeed(alice, "send-msg", room=room, content="after"))["ts"])
    assert (await alice.next_event("user-left")).fields["username"] == carol.username
    query = {"pid": bob.pid, "offset": bob.offset}  # type: ignore[attr-defined]
    back = await join("json", bob.username, to=own, query=query)
    assert back.welcome.fields["recovered"] is True
    assert [entry["room"] for entry in back.welcome.fields["rooms"]] == [room]
    clock.set(0)
    times.append((await succeed(alice, "send-msg", room=room, content="and now"))["ts"])
    assert times == sorted(times)
    assert (times[1] > times[0] + 1000 * (DAY - 60)) == (step > 0)  # the clock was set
    await back.drop()
    assert (await alice.next_event("user-left")).fields["username"] == bob.username
    await own.stop()
