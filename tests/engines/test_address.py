"""URLs of stores on a server."""

from __future__ import annotations

import pytest

from gateway.engines.valkey.address import Address
from gateway.errors import StoreError

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://", {}),
        ("redis://a", {"host": "a"}),
        ("valkey://a:1/2", {"host": "a", "port": 1, "db": 2}),
        ("rediss://me:secret@a", {"host": "a", "username": "me", "password": "secret"}),
        ("valkeys://a", {"host": "a"}),
        ("unix:///run/v.sock?db=3", {"path": "/run/v.sock", "db": 3}),
        ("unix:///run/v.sock?prefix=x", {"path": "/run/v.sock"}),
    ],
)
def test_urls_name_a_server(url: str, options: dict[str, object]) -> None:
    address = Address.parse(url)
    assert {name: address.options.get(name) for name in options} == options
    assert address.sentinels is None
    assert address.kind.__name__.startswith("SSL") == url.startswith(("rediss", "valkeys"))


def test_a_prefix_names_the_store() -> None:
    assert Address.parse("redis://a").meta == "{gateway}:meta"
    assert Address.parse("redis://a?prefix=x%20y").meta == "{x y}:meta"


@pytest.mark.parametrize(
    ("url", "hosts", "service", "database"),
    [
        ("redis+sentinel://a/main", [("a", 26379)], "main", None),
        ("redis+sentinel://a:1,b:2/main/3?prefix=x", [("a", 1), ("b", 2)], "main", 3),
        ("valkey+sentinel://me:secret@[::1]:7,[::2]/m", [("::1", 7), ("::2", 26379)], "m", None),
    ],
)
def test_urls_name_sentinels(url: str, hosts: list[tuple[str, int]], service: str, database: int | None) -> None:
    address = Address.parse(url)
    assert address.sentinels is not None
    assert (list(address.sentinels.hosts), address.sentinels.service) == (hosts, service)
    assert address.options.get("db") == database
    assert address.options.get("username") == ("me" if "me:" in url else None)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a", "URL"),
        ("redis+cluster://a", "not known"),
        ("redis+sentinel://a", "name of the service"),
        ("redis+sentinel://a:x/main", "HOST:PORT"),
        ("redis://a?wrong=1", "wrong"),
        ("redis://a?prefix=", "prefix"),
        ("redis://a?prefix={x}", "prefix"),
        ("redis://me:secret@a:port", "a store"),
    ],
)
def test_wrong_urls_are_refused_without_their_password(url: str, problem: str) -> None:
    with pytest.raises(StoreError) as caught:
        Address.parse(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
