"""Parsing the origins, networks and paths in settings, with suggestions in the errors; and what to log of a URL."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import idna

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

ANY: Final = "*"
OPAQUE: Final = "null"
"""The origin of sandboxed pages and, in most browsers, of files (RFC 6454, section 7.1)."""

FILE: Final = "file://"
"""The origin that pages of an Electron application may send."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
PAGE_SCHEMES: Final = {"ws": "http", "wss": "https"}
"""The scheme of the page that connects, by the scheme with which it connects."""

MAX_ORIGIN_LENGTH: Final = 300
"""The longest ``Origin`` header that is parsed, in characters. A host name has at most 253."""

ALL_NETWORKS: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
YES: Final = frozenset({"*", "1", "true", "yes", "on", "all"})
NO: Final = frozenset({"", "0", "false", "no", "off", "none"})

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_PORT = re.compile(r"[0-9]{1,5}")
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def parse_origin(text: str) -> str:
    """An origin as browsers write it: in lower case, in Punycode, without a default port. ``https://*.example`` is a
    pattern for all subdomains.

    Raises:
        ValueError: not an origin. The message suggests one if possible.
    """
    if text.lower() in {ANY, OPAQUE, FILE}:
        return text.lower()
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise _not_an_origin(text, f"https://{text}")
    if scheme in PAGE_SCHEMES:
        raise _not_an_origin(text, f"{PAGE_SCHEMES[scheme]}://{rest}")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    try:
        origin = _origin(scheme, authority)
    except ValueError:
        raise _not_an_origin(text) from None
    if rest.rstrip("/") != authority:
        raise _not_an_origin(text, origin)
    return origin


def _not_an_origin(text: str, suggestion: str | None = None) -> ValueError:
    problem = f"{text!r} is not an origin such as https://chat.example or https://*.chat.example"
    if suggestion is not None:
        try:
            return ValueError(f"{problem}; did you mean {parse_origin(suggestion)}?")
        except ValueError:
            pass
    return ValueError(problem)


def _origin(scheme: str, authority: str) -> str:
    if not _SCHEME.fullmatch(scheme):
        raise ValueError("not a scheme")
    host, port = _split_port(authority)
    wildcard = "*." if host.startswith("*.") else ""
    host = wildcard + _parse_host(host.removeprefix("*."))
    if port is None or port == DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def _split_port(authority: str) -> tuple[str, int | None]:
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port:
        return authority, None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("not a port")
    return host, int(port)


def _parse_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()  # its errors are ValueErrors
    host = host.lower()
    if not _HOST.fullmatch(host):
        raise ValueError("not a host")
    return host


def parse_host_port(text: str) -> str:
    """``host:port``, in lower case; an IPv6 address is in brackets.

    Raises:
        ValueError: one of them is missing or wrong.
    """
    host, port = _split_port(text)
    if not port:
        raise ValueError("no port")
    return f"{_parse_host(host)}:{port}"


def same_form(origin: str) -> str | None:
    """The ``Origin`` header of a request in the form of `parse_origin`, or None if it is not an origin."""
    return _same_form(origin) if len(origin) <= MAX_ORIGIN_LENGTH and "*" not in origin else None


@lru_cache(maxsize=256)
def _same_form(origin: str) -> str | None:
    try:
        return parse_origin(origin)
    except ValueError:
        return None


def covers(pattern: str, origin: str) -> bool:
    """Whether ``origin`` is ``pattern``, or matches it; both as `parse_origin` returns them."""
    scheme, wildcard, domain = pattern.partition("://*")
    if not wildcard:
        return origin == pattern
    prefix = f"{scheme}://"
    return origin.startswith(prefix) and origin.endswith(domain) and len(origin) > len(prefix) + len(domain)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas; ``*`` stands for all.

    Raises:
        ValueError: one of them is neither an address nor a network; the message says which.
    """
    words = [word for word in map(str.strip, text.lower().split(",")) if word]
    if len(words) == 1 and words[0] in YES:
        return ALL_NETWORKS
    if len(words) <= 1 and "".join(words) in NO:
        return ()
    return tuple(_network(word) for word in words)


def _network(word: str) -> Network:
    try:
        return ipaddress.ip_network(word)
    except ValueError as error:
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError(f"{word!r} is not an address or a network such as 10.0.0.0/8") from error
        raise ValueError(f"{word!r} is an address within a network; did you mean {network}?") from None


def parse_base_path(text: str) -> str:
    """A path such as ``/chat``, without a slash at its end; the root is ``/``.

    Raises:
        ValueError: not such a path. The message suggests one if possible.
    """
    path = text.rstrip("/")
    if _is_base_path(path):
        return path or "/"
    problem = f"{text!r} is not a path such as /chat, of letters, digits, and - . _ ~"
    suggestion = "/" + "/".join(filter(None, text.split("/")))
    if _is_base_path(suggestion):
        raise ValueError(f"{problem}; did you mean {suggestion}?")
    raise ValueError(problem)


def _is_base_path(path: str) -> bool:
    return _BASE_PATH.fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))


def without_password(url: str) -> str:
    """A URL as it may be logged."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:…@{parts.netloc.rpartition('@')[2]}"))
