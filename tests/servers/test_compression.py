"""Compressed long-polling responses: for clients that ask for it, fast, and never at the cost of others."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.servers.http.compression import LEVEL, MAX_SIZE
from servers.serving import echo_server, serving

pytestmark = pytest.mark.fast


@pytest.fixture
async def url() -> AsyncIterator[str]:
    server = echo_server(ping_interval=30, max_http_buffer_size=4 * MAX_SIZE)
    async with serving(server, "engine.io") as url:
        yield url


async def poll(url: str, size: int, accepts: str | None, origin: str | None = None) -> tuple[dict[str, str], bytes]:
    """The headers and the body, as they travel, of a poll that brings a message of that size."""
    headers = {name: value for name, value in (("Accept-Encoding", accepts), ("Origin", origin)) if value is not None}
    options = {"auto_decompress": False, "skip_auto_headers": ["Accept-Encoding"]}
    async with aiohttp.ClientSession(**options) as session:  # type: ignore[arg-type]
        query = {"EIO": "4", "transport": "polling"}
        async with session.get(url, params=query) as opened:
            query["sid"] = (await opened.text()).split('"sid":"')[1].split('"')[0]
        async with session.post(url, params=query, data=b"4" + b"message " * (size // 8)) as posted:
            assert posted.status == 200
        async with session.get(url, params=query, headers=headers) as response:
            polled = {name.lower(): value for name, value in response.headers.items()}, await response.read()
        async with session.post(url, params=query, data=b"1"):  # a session that is left open keeps the server waiting
            return polled


@pytest.mark.parametrize(
    ("accepts", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip;q=1.0, *;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.000, deflate;q=0", None),
        ("*;q=0", None),
        ("br, identity", None),
        ("", None),
        (None, None),
    ],
)
async def test_the_client_chooses_the_encoding(url: str, accepts: str | None, coding: str | None) -> None:
    """RFC 9110, section 12.5.3. `Vary` names what the response depends on, besides the origin."""
    own_page = url.removesuffix("/engine.io/")
    headers, body = await poll(url, 10_000, accepts, origin=own_page if accepts == "gzip" else None)
    assert headers.get("content-encoding") == coding
    assert headers["vary"].lower() == ("origin, accept-encoding" if accepts == "gzip" else "accept-encoding")
    decoded = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding](body)
    assert decoded == b"4" + b"message " * 1_250
    assert int(headers["content-length"]) == len(body)


@pytest.mark.parametrize(("size", "compressed"), [(800, False), (2_000, True), (262_000, True), (270_000, False)])
async def test_only_responses_worth_compressing_are_compressed(url: str, size: int, compressed: bool) -> None:
    """Neither little nor more than 256 KB, for which all others would have to wait."""
    headers, body = await poll(url, size, "gzip")
    assert ("content-encoding" in headers) is compressed
    assert compressed or len(body) == size + 1


async def test_compression_is_fast(url: str) -> None:
    """At zlib's first level: the largest reply that is compressed takes a few milliseconds."""
    _, body = await poll(url, 262_000, "gzip")
    plain = b"4" + b"message " * (262_000 // 8)
    compressor = zlib.compressobj(LEVEL, wbits=31)
    assert LEVEL == 1
    assert body == compressor.compress(plain) + compressor.flush()
    start = time.process_time()
    zlib.compress(plain, LEVEL)
    assert time.process_time() - start < 0.05
