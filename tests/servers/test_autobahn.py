"""The cases of the Autobahn suite, which `kosoku` runs, against our WebSocket streams."""

from __future__ import annotations

import asyncio

from kosoku import FailureError, run_fuzzingclient

from servers.echo import EchoServer

EXTENSIONS = ["12.*", "13.*"]
"""The cases of permessage-deflate, which is never negotiated."""


async def test_no_autobahn_case_fails() -> None:
    """All cases of RFC 6455: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, size and speed."""
    async with EchoServer() as server, asyncio.timeout(100):
        try:
            results = await run_fuzzingclient(server.address, exclude_cases=EXTENSIONS, concurrency=8)
        except FailureError as failure:
            raise AssertionError(str(failure)) from None
    assert len(results) > 300
    assert [result for result in results if not result.passed] == []
