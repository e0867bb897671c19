"""Running a command that does not outlive the process that started it, not even if that is killed (Linux).

``python tether.py PARENT BLOCKED COMMAND ARGUMENTS…`` becomes the command: it asks the system for a SIGKILL at the end
of its parent, whose process id is PARENT, blocks the signals whose numbers are in BLOCKED, and no others, and executes
the command, which inherits that. It is a script, and imports nothing of the gateway, so that this takes some 20 ms. (A
``preexec_fn`` would run in a copy of a process with threads, which may be left with a lock that nobody releases.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG: Final = 1
"""From ``linux/prctl.h``."""


def start(
    command: Sequence[str],
    *,
    files: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    blocked: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process. It inherits stdout, stderr and the open ``files``. It receives
    neither the signals that are ``blocked``, nor those that a terminal sends to the processes in its foreground.

    To be called in the main thread: the end of the thread that starts it is what ends the command.
    """
    numbers = ",".join(str(int(number)) for number in blocked)
    tethered = [sys.executable, "-I", "-S", __file__, str(os.getpid()), numbers, *command]
    return subprocess.Popen(  # noqa: S603 - it is our own command
        tethered, stdin=subprocess.DEVNULL, pass_fds=files, env=environment, cwd=folder, process_group=0
    )


def main(parent: int, blocked: list[int], command: list[str]) -> None:
    """Become the command. Does not return."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != parent:  # it has ended already
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.execv(command[0], command)  # noqa: S606 - there is no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",") if number], sys.argv[3:])
