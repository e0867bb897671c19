"""A store restored from a backup: no offset from after the backup recovers anything."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from engines.conftest import Recorder, sqlite_store
from gateway.engines.effects import Session
from gateway.engines.sqlite import epochs
from gateway.errors import InvalidPayload
from gateway.rules.sessions import Claim, ResumePoint
from gateway.rules.store import Store

pytestmark = pytest.mark.fast


class Runs:
    """A store whose file is copied and put back between runs; alice writes, and bob is away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder()
        self.engine: Store
        self.bob: Session
        self.offset: str = ""
        """The last one that bob received."""

    @property
    def path(self) -> Path:
        return self.folder / "gateway.db"

    async def open(self) -> None:
        self.recorder = Recorder()
        self.engine = sqlite_store(self.path)
        await self.engine.open(self.recorder)

    def copy(self, name: str) -> None:
        """As a backup would: all that is committed."""
        for suffix in ("", "-wal"):
            source = Path(f"{self.path}{suffix}")
            if source.exists():
                shutil.copy(source, self.folder / f"{name}{suffix}")

    async def crash(self) -> None:
        self.copy("crashed")
        await self.engine.close(5)
        self.put_back("crashed")

    def put_back(self, name: str) -> None:
        for suffix in ("", "-wal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            if (self.folder / f"{name}{suffix}").exists():
                shutil.copy(self.folder / f"{name}{suffix}", f"{self.path}{suffix}")

    async def start(self) -> None:
        await self.open()
        await self.engine.attach_session(Claim("alice", "c-alice", None))
        self.bob = await self.engine.attach_session(Claim("bob", "c-bob", None))
        await self.engine.create_room("alice", "tea", ("bob",))
        self.offset = self.recorder.publications[-1].offset or ""

    async def write(self, *contents: str, bob_receives: bool = False) -> None:
        for content in contents:
            await self.engine.append_message("alice", "tea", content, None)
        if bob_receives:
            self.offset = self.recorder.publications[-1].offset or ""

    async def back(self, offset: str | None = None) -> tuple[bool, list[str]]:
        """Bob comes back; whether he has recovered, and what he missed."""
        point = ResumePoint(self.bob.pid, offset or self.offset)
        self.bob = await self.engine.attach_session(Claim("bob", "c-back", point))
        attachment = self.recorder.last_attachment
        return attachment.recovered, [orjson.loads(missed.body)["content"] for missed in attachment.missed]

    async def history(self, before: str | None = None) -> list[str]:
        page = await self.engine.read_history("bob", "tea", before, 100)
        return [orjson.loads(message)["content"] for message in page.bodies]


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    runs = Runs(tmp_path)
    await runs.start()
    yield runs
    await runs.engine.close(5)


async def test_an_offset_from_after_the_backup_recovers_nothing(runs: Runs) -> None:
    """Whatever was written since: fewer events than were lost, as many, or more."""
    await runs.write("kept", bob_receives=True)
    runs.copy("backup")
    await runs.write(*"12345", bob_receives=True)
    bob = runs.bob
    await runs.crash()
    for number in (0, 1, 4, 5, 6, 8):
        runs.put_back("backup")
        runs.bob = bob
        await runs.open()
        written = [f"new {count}" for count in range(number)]
        await runs.write(*written)
        assert await runs.back() == (False, [])
        assert await runs.history() == ["kept", *written]
        await runs.engine.close(5)
    await runs.open()


async def test_an_offset_from_before_the_backup_recovers(runs: Runs) -> None:
    await runs.write("kept", bob_receives=True)
    runs.copy("backup")
    await runs.write(*"12345")
    await runs.crash()
    runs.put_back("backup")
    await runs.open()
    await runs.write("a", "b")
    assert await runs.back() == (True, ["a", "b"])


async def test_a_backup_restored_twice_has_an_epoch_each_time(runs: Runs) -> None:
    """What was written after the first time is unknown after the second."""
    runs.copy("backup")
    await runs.write(*"123", bob_receives=True)
    await runs.crash()
    bob, first = runs.bob, runs.offset
    runs.put_back("backup")
    await runs.open()
    await runs.write(*"abcde", bob_receives=True)
    second = runs.offset
    await runs.crash()
    for offset in (first, second):
        runs.put_back("backup")
        runs.bob = bob
        await runs.open()
        await runs.write(*"uvwxyz")
        assert await runs.back(offset) == (False, [])
        assert await runs.history() == list("uvwxyz")
        with pytest.raises(InvalidPayload):
            await runs.history(before=offset)
        await runs.engine.close(5)
    await runs.open()


async def test_a_newer_copy_restored_after_an_older_one(runs: Runs) -> None:
    """The backup was the wrong one: with the newer file back, its offsets are good, and those between are not."""
    runs.copy("backup")
    await runs.write(*"12", bob_receives=True)
    good = runs.offset
    await runs.write(*"345")
    await runs.crash()
    runs.copy("newer")
    bob = runs.bob
    runs.put_back("backup")
    await runs.open()
    await runs.write(*"abcdefgh", bob_receives=True)
    between = runs.offset
    await runs.crash()
    for offset, outcome in ((between, (False, [])), (good, (True, ["3", "4", "5", "x"]))):
        runs.put_back("newer")
        runs.bob = bob
        await runs.open()
        await runs.write("x")
        assert await runs.back(offset) == outcome
        assert await runs.history() == [*"12345", "x"]
        await runs.engine.close(5)
    await runs.open()


async def test_a_wiped_store_recovers_nothing(runs: Runs) -> None:
    await runs.write(*"12345", bob_receives=True)
    await runs.engine.close(5)
    runs.put_back("nothing")
    await runs.open()
    await runs.engine.attach_session(Claim("alice", "c-alice", None))
    runs.bob = await runs.engine.attach_session(Claim("bob", "c-bob", None))
    await runs.engine.create_room("alice", "tea", ("bob",))
    await runs.write(*"abcdefgh")
    assert await runs.back() == (False, [])


async def test_epochs_are_kept_while_a_session_needs_them(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in which nothing was written leave none; of the others, those whose events or clients are there, at most."""
    monkeypatch.setattr(epochs, "MAX_EPOCHS", 4)

    def count() -> int:
        names = {orjson.loads(page)["offset"].partition("-")[0] for page in kept}
        return len(names)

    for _ in range(5):
        await runs.engine.close(5)
        await runs.open()
    assert await runs.back() == (True, [])
    for number in range(8):
        await runs.write(str(number))
        await runs.engine.close(5)
        await runs.open()
        kept = (await runs.engine.read_history("bob", "tea", None, 100)).bodies
        assert count() == min(number + 1, 3)
    runs.offset = orjson.loads(kept[-2])["offset"]
    assert await runs.back() == (True, ["7"])
    assert not (await runs.back(orjson.loads(kept[0])["offset"].replace("-", "x-")))[0]
