"""How much memory there is."""

from __future__ import annotations

import os
from pathlib import Path


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can have: the machine's, or what its control group (Linux) leaves it of that."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _limit_files(root):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" is no limit
            sizes.append(int(text))
    return min(size for size in sizes if size > 0)


def _limit_files(root: Path) -> list[Path]:
    """Where the limits of the process's control group, and of those around it, are (version 2, and 1)."""
    files = [root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory/memory.limit_in_bytes"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in {"", "memory"}:
            base, name = (
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("sys/fs/cgroup", "memory.max")
            )
            inner = root / base / group.lstrip("/")
            files += [folder / name for folder in (inner, *inner.parents) if (root / base) in folder.parents]
    return files
