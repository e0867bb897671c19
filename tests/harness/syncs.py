"""Holding back what a process asks of its disk: every fsync waits until the test releases it.

Linux has the kernel ask us (seccomp user notification, seccomp_unotify(2)): the process is the real one, and so
are its disk and its system calls.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import platform
import socket
import struct

import pytest

SYSCALLS = {"x86_64": (317, {74, 75}), "aarch64": (277, {82, 83})}
"""By machine: the number of seccomp(2), and those of fsync(2) and fdatasync(2)."""

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_CONTINUE = 1
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _filter(numbers: set[int]) -> bytes:
    """Ask for system calls of these numbers, allow all others (classic BPF)."""
    code = [(_LOAD, 0, 0, 0)]
    for index, number in enumerate(sorted(numbers)):
        code.append((_JUMP_EQUAL, len(numbers) - index, 0, number))
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ASK)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class HeldSyncs:
    """The syncs of one process: let through at first, held from `hold` on, until `release`."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._listener = -1
        self._holding = False
        self._held: list[int] = []
        self.came = asyncio.Event()
        """A sync is being held."""

    def before_exec(self) -> None:
        """In the child: have its syncs asked for, and hand the asking to the test."""
        seccomp, numbers = SYSCALLS[platform.machine()]
        code = _filter(numbers)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = _Program(len(code) // 8, ctypes.addressof(buffer))
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        listener = _libc.syscall(seccomp, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
        if listener >= 0:
            socket.send_fds(self._theirs, [b"x"], [listener])
        else:
            self._theirs.send(b"x")

    def start(self) -> None:
        """The child runs: respond to its system calls."""
        _, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1)
        if not descriptors:
            pytest.skip("this kernel lets nobody hold system calls back")
        (self._listener,) = descriptors
        asyncio.get_running_loop().add_reader(self._listener, self._asked)

    def close(self) -> None:
        self.release()
        if self._listener >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            os.close(self._listener)
        self._ours.close()
        self._theirs.close()

    def hold(self) -> None:
        self._holding = True

    def release(self) -> None:
        self._holding = False
        self.came.clear()
        held, self._held = self._held, []
        for notification in held:
            self._let(notification)

    def _asked(self) -> None:
        notification = bytearray(80)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notification)
        except FileNotFoundError:
            return  # it was killed while it asked
        (number,) = struct.unpack_from("Q", notification)
        if self._holding:
            self._held.append(number)
            self.came.set()
        else:
            self._let(number)

    def _let(self, number: int) -> None:
        try:
            fcntl.ioctl(self._listener, _SEND, struct.pack("QqiI", number, 0, 0, _CONTINUE))
        except FileNotFoundError:
            return
