"""The scripts, and what stands before each of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

FOLDER: Final = files("gateway.engines.valkey") / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 by which a server knows it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script in the file of that name; `COMMIT_ADDING` is in that of ``commit``."""
    parts = (*_PARTS.get(name, _READING), "commit" if name == COMMIT_ADDING else name)
    source = "\n".join((FOLDER / f"{part}.lua").read_text() for part in parts)
    if name in _ALSO_WHEN_FULL:
        source = f"#!lua flags=allow-oom\n{source}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def all_scripts() -> list[Script]:
    """Those that a server must know."""
    names = {file.name.removesuffix(".lua") for file in FOLDER.iterdir() if file.name.endswith(".lua")}
    return [script(name) for name in sorted((names - set(_READING)) | {COMMIT_ADDING})]


COMMIT_ADDING: Final = "commit_adding"
"""``commit``, but refused by a server whose memory is full: for rules that add something."""

_ALSO_WHEN_FULL: Final = frozenset({"hello", "beat", "bye", "commit", "disown"})
"""Nodes stay alive, sessions begin and end, and members leave."""

_READING: Final = ("common", "log", "reading")
_PARTS: Final = {
    "hello": ("common",),
    "beat": ("common",),
    "bye": ("common",),
    "append": ("common", "log"),
    "commit": ("common", "log"),
    COMMIT_ADDING: ("common", "log"),
    "import_begin": ("common",),
    "import_write": ("common",),
    "import_end": ("common",),
}
