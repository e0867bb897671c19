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
            assert len(results) > 300
        except FailureError as failure:
            # A case waits a second for its close, which is short on a crowded machine: those are run alone.
            results = await run_fuzzingclient(server.address, cases=[case.case_id for case in failure.results])
    assert [result for result in results if not result.passed] == []
