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
    """The script in the file of that name."""
    source = "\n".join((FOLDER / f"{part}.lua").read_text() for part in (*_PARTS.get(name, _READING), name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_READING: Final = ("common", "log", "reading")
_PARTS: Final = {
    "hello": ("common",),
    "beat": ("common",),
    "bye": ("common",),
    "append": ("common", "log"),
    "commit": ("common", "log"),
}
