"""What the gateway serves over plain HTTP."""

from __future__ import annotations

import pytest

from gateway.web import static_folder
from harness.http import request
from harness.process import GatewayProcess


async def test_the_page_and_its_files_are_served(gateway: GatewayProcess) -> None:
    """The page is revalidated each time, what it loads is cached for good; both with security headers."""
    page = await request("GET", gateway.url + "/")
    assert page.status == 200
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    script = next(word for word in page.text.split('"') if word.startswith("./assets/") and word.endswith(".js"))
    answer = await request("GET", gateway.url + script.removeprefix("."))
    assert (answer.status, answer.headers["x-content-type-options"]) == (200, "nosniff")
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/gone-123.js",
        "/nothing",
        "/.sources.sha256",
        "/assets/%2e%2e/%2e%2e/cli.py",
        "/%2e%2e/cli.py",
        "/" + "x" * 5000,
    ],
    ids=lambda path: path[:20],
)
async def test_what_is_not_there_is_404_and_not_cached(gateway: GatewayProcess, path: str) -> None:
    """Neither hidden files nor others of the installation can be had, and no long path is an error of ours."""
    answer = await request("GET", gateway.url + path)
    assert answer.status == 404
    assert "cache-control" not in answer.headers


def test_the_page_is_small() -> None:
    """All its scripts together are less than 120 kB, as they travel."""
    scripts = [path.stat().st_size for path in static_folder().rglob("*.js.gz")]
    assert 10_000 < sum(scripts) < 120_000


async def test_health_says_ok(gateway: GatewayProcess) -> None:
    answer = await request("GET", gateway.url + "/health")
    assert (answer.status, answer.text) == (200, '{"status": "ok"}')
