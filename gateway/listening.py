"""The sockets that the gateway listens on: IPv4 and IPv6 addresses, all with the same port, and a Unix socket.

Several workers share a port: each has sockets of its own, bound with SO_REUSEPORT, and Linux distributes new
connections evenly over those that are listening. One socket for all would not do that: the worker that wakes up first
accepts all that are waiting, and WebSockets stay for hours. The supervisor binds the sockets and keeps them, so that
nobody else gets the port while a worker is restarted; each worker makes its own listen when it can serve. A Unix socket
cannot be bound twice, so that is one for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


BACKLOG: Final = 1024
"""How many connections the system queues until they are accepted."""

PORT_ATTEMPTS: Final = 20
"""How many free ports are tried, to find one that is free on every address."""

SOCKET_MODE: Final = 0o660
"""The permissions of the Unix socket: for the user that runs the gateway, and its group."""


class ListenError(Exception):
    """An address cannot be listened on. The message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of a host to listen on."""

    host: str
    family: socket.AddressFamily
    address: str
    scope: tuple[int, ...]
    """Flow information and zone of a link-local IPv6 address; else zeros, or empty."""

    @property
    def is_wildcard(self) -> bool:
        return self.address in {"0.0.0.0", "::"}  # noqa: S104 - it is only recognised


def open_sockets(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets that listen on ``port`` of every address of ``hosts``, once each; 0 is one free port for all of them.

    ``::`` is IPv6 only, on every system; together with ``0.0.0.0`` it covers both.

    Raises:
        ListenError: one of the hosts cannot be listened on.
    """
    endpoints = [endpoint for host in hosts for endpoint in _resolve(host)]
    whole = {endpoint.family for endpoint in endpoints if endpoint.is_wildcard}
    # A socket that listens on all addresses of a family includes the others.
    endpoints = [endpoint for endpoint in endpoints if endpoint.is_wildcard or endpoint.family not in whole]
    distinct = list({(endpoint.family, endpoint.address): endpoint for endpoint in endpoints}.values())
    for _ in range(PORT_ATTEMPTS):
        sockets = _bind_all(distinct, port)
        if sockets is not None:
            return sockets
    raise ListenError(f"No port is free on all of {', '.join(hosts)}; choose one with --port.")


def open_shared_sockets(hosts: Sequence[str], port: int, workers: int) -> list[list[socket.socket]]:
    """For each worker, sockets that are bound to the same port of every address of ``hosts``, and do not listen yet.

    Raises:
        ListenError: one of the hosts cannot be listened on.
    """
    # Sockets with SO_REUSEPORT may be bound beside those of another gateway of this user; others may not.
    exclusive = open_sockets(hosts, port)
    bound = [(listening.family, listening.getsockname()) for listening in exclusive]
    _close(exclusive)
    groups: list[list[socket.socket]] = []
    try:
        for _ in range(workers):
            groups.append([])
            for family, address in bound:
                groups[-1].append(_bind_shared(family, address))
    except OSError as error:
        for group in groups:
            _close(group)
        raise _problem(shown(address[0], address[1]), error) from None
    return groups


def _bind_shared(family: socket.AddressFamily | int, address: tuple[Any, ...]) -> socket.socket:
    sharing = _new_socket(family)
    try:
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharing.bind(address)
    except BaseException:
        sharing.close()
        raise
    return sharing


def stop_listening(sockets: Sequence[socket.socket]) -> None:
    """Have the system send new connections to the sockets of other workers. These keep their port, and can listen
    again. To close one would not be enough: another process may have it open, too.
    """
    for listening in sockets:
        with contextlib.suppress(OSError):  # it was not listening
            listening.shutdown(socket.SHUT_RDWR)


def _resolve(host: str) -> list[Endpoint]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _problem(host, error) from None
    return [
        Endpoint(host, socket.AddressFamily(family), str(address[0]), tuple(map(int, address[2:])))
        for family, _, _, _, address in found
        if family in {socket.AF_INET, socket.AF_INET6}
    ]


def _bind_all(endpoints: list[Endpoint], port: int) -> list[socket.socket] | None:
    """A socket for each of ``endpoints``. None if ``port`` is 0 and the free port of the first is taken on another.

    An address of a host name may be unavailable, such as an IPv6 address on a machine without IPv6, unless all are.
    """
    sockets: list[socket.socket] = []
    unavailable: dict[str, OSError] = {}
    bound = set()
    for endpoint in endpoints:
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bind(endpoint, chosen))
            bound.add(endpoint.host)
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                unavailable[endpoint.host] = error
                continue
            _close(sockets)
            if port == 0 and sockets and error.errno == errno.EADDRINUSE:
                return None
            raise _problem(shown(endpoint.host, chosen), error) from None
    for host, problem in unavailable.items():
        if host not in bound:
            _close(sockets)
            raise _problem(shown(host, port), problem)
    return sockets


def _problem(where: str, error: OSError | UnicodeError) -> ListenError:
    reason = getattr(error, "strerror", None) or str(error)
    return ListenError(f"Cannot listen on {where}: {reason}; choose another address with --host and --port.")


def _bind(endpoint: Endpoint, port: int) -> socket.socket:
    listening = _new_socket(endpoint.family)
    try:
        listening.bind((endpoint.address, port, *endpoint.scope))
        listening.listen(BACKLOG)  # now: on Linux, only this may report that the address is in use
    except BaseException:
        listening.close()
        raise
    return listening


def _new_socket(family: socket.AddressFamily | int) -> socket.socket:
    created = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return created


def _close(sockets: Sequence[socket.socket]) -> None:
    for listening in sockets:
        listening.close()


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A Unix socket in the file system."""

    path: str
    listening: socket.socket
    _identity: tuple[int, int] | None
    """Device and inode of the file; None if another process is to remove it."""

    @classmethod
    def bind(cls, path: str) -> Self:
        """Listen on ``path``, until `remove`. A socket that a process has left there is replaced, if the process has
        ended.

        Raises:
            ListenError: another process listens there, or it is not a socket, or it cannot be created.
        """
        if not hasattr(socket, "AF_UNIX"):
            raise ListenError("This system has no Unix sockets; choose an address with --host and --port.")
        created = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_stale(path)
            created.bind(path)
            os.chmod(path, SOCKET_MODE)
            created.listen(BACKLOG)
            return cls(path, created, _identity(path))
        except OSError as error:
            created.close()
            reason = error.strerror or str(error)
            raise ListenError(
                f"Cannot listen on the Unix socket {path}: {reason}; choose another path with --unix-socket."
            ) from None

    @classmethod
    def inherit(cls, path: str, descriptor: int) -> Self:
        """The socket that another process has bound to ``path``, and shares."""
        return cls(path, socket.socket(fileno=descriptor), None)

    def remove(self) -> None:
        """Close it, and delete the file, unless it belongs to another process by now."""
        self.listening.close()
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                os.unlink(self.path)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError("there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except TimeoutError:
            pass  # another process listens, and is busy
    raise OSError("another process listens on it")


class Listening:
    """Accepts connections on addresses and on a Unix socket, until it is closed."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        unix: UnixSocket | None = None,
        own: socket.socket | None = None,
        *,
        host: str = "",
        base_path: str = "/",
    ) -> None:
        """``own``: one at which other nodes reach this one, because others listen on the port of ``sockets``, too.
        ``host``: how the operator calls the address of the first of these. ``base_path``: where the page is served.
        """
        self._servers: list[asyncio.Server] = []
        self._sockets = sockets if own is None else [own, *sockets]
        self._unix = unix
        names = [listening.getsockname() for listening in self._sockets]
        self.addresses = [shown(name[0], name[1]) for name in names]
        """The addresses listened on, as people write them."""
        self.url = url_of(host, sockets[0].getsockname()[1], base_path) if sockets else None
        """The URL of the page, for a browser on this machine; None if there is only the Unix socket."""
        if unix is not None:
            self.addresses.append(f"unix:{unix.path}")

    @classmethod
    def bind(cls, hosts: Sequence[str], port: int, unix_socket: str | None, *, base_path: str = "/") -> Self:
        """Bind all of them.

        Raises:
            ListenError: one of them cannot be listened on.
        """
        sockets = open_sockets(hosts, port)
        try:
            unix = None if unix_socket is None else UnixSocket.bind(unix_socket)
        except ListenError:
            _close(sockets)
            raise
        return cls(sockets, unix, host=next(iter(hosts), ""), base_path=base_path)

    @property
    def ready_line(self) -> str:
        """The line that says which URL to open, and the addresses listened on if they differ from it."""
        addresses = " and ".join(self.addresses)
        if self.url is None:
            return f"Gateway ready: listening on {addresses}"
        more = "" if self.url.startswith(f"http://{addresses}/") else f" (listening on {addresses})"
        return f"Gateway ready: open {self.url}{more}"

    async def start(self, protocol_factory: Callable[[], asyncio.BaseProtocol], *, unsent_timeout: float) -> None:
        """Accept connections. A TCP connection on which the client accepts no data for ``unsent_timeout`` seconds
        is closed by the system.
        """
        for listening in self._sockets:
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * unsent_timeout))
        loop = asyncio.get_running_loop()
        for listening in [*self._sockets, *([self._unix.listening] if self._unix else [])]:
            # asyncio also uses `backlog` as the number of accept() calls in a row, and when file descriptors have run
            # out, it schedules that many retries each time. So asyncio gets 1, and the system the real one below.
            self._servers.append(await loop.create_server(protocol_factory, sock=listening, backlog=1))
            listening.listen(BACKLOG)

    def node_address(self, towards: str) -> str | None:
        """``host:port`` at which other nodes reach this one; None where it listens on a Unix socket alone. Of all
        addresses of the machine it is the one from which ``towards`` is reached, a host that all nodes reach, such as
        that of their store.
        """
        if not self._sockets:
            return None
        host, port = self._sockets[0].getsockname()[:2]
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - they are only recognised
            host = _address_towards(towards, self._sockets[0].family)
        return shown(host, port)

    def close(self) -> None:
        """Stop accepting connections."""
        for server in self._servers:
            server.close()
        stop_listening(self._sockets)
        _close(self._sockets)
        if self._unix is not None:
            self._unix.remove()


def _address_towards(host: str, family: int) -> str:
    """The address of this machine from which ``host`` is reached; nothing is sent. The machine's own, where it is not.

    The name is looked up at once: this is for the start, when nobody waits.
    """
    try:
        (_, _, _, _, address), *_ = socket.getaddrinfo(host, 9, family, socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return "::1" if family == socket.AF_INET6 else "127.0.0.1"


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def shown(host: str, port: int) -> str:
    """An address as people write it: ``127.0.0.1:8080``, ``[::1]:8080``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, port: int, path: str) -> str:
    """The URL for a browser on this machine when ``host`` is listened on."""
    return f"http://{shown({'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), port)}{path.rstrip('/')}/"  # noqa: S104
