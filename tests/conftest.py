"""Real parts for the tests: the gateway as a process, the stock Socket.IO client, a plain WebSocket client."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from harness import contract
from harness.names import WIRES, fresh_name
from harness.node import Driver, install_packages
from harness.plain import BareClient, JsonClient
from harness.process import GatewayProcess, allow_many_files
from harness.stock import TRANSPORTS, SocketIOClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator
    from pathlib import Path

    from harness.client import ChatClient, Join
    from harness.process import StartGateway

pytest_plugins = ["harness.speed"]

settings.register_profile("suite", deadline=None)  # how long an example takes says more of the machine
settings.load_profile("suite")

_shared = pytest.StashKey[GatewayProcess]()
_running = pytest.StashKey[list[GatewayProcess]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Put the gateways' logs into the report of a test that failed."""
    report = (yield).get_result()
    if report.failed:
        for process in item.session.stash.get(_running, []):
            if process.log:
                report.sections.append((f"log of {process.url}", process.log[-5000:]))


@pytest.fixture(scope="session")
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[GatewayProcess]:
    """A gateway with its default settings, shared by all tests that need nothing special."""
    allow_many_files()
    async with GatewayProcess() as process:
        request.session.stash[_shared] = process
        request.session.stash.setdefault(_running, []).append(process)
        yield process
        assert process.running, f"the gateway has ended\n{process.log}"


@pytest.fixture(autouse=True)
def clean_log(request: pytest.FixtureRequest) -> Generator[None]:
    """No test may make the shared gateway print a traceback, or end."""
    yield
    if process := request.session.stash.get(_shared, None):
        assert process.running, f"the gateway has ended\n{process.log}"
        process.check_log()


@pytest.fixture(autouse=True)
def check_contract() -> Generator[None]:
    """No client of a test was sent what `gateway.protocol` does not declare."""
    contract.violations.clear()
    yield
    assert contract.violations == []


@pytest.fixture
async def start_gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StartGateway]:
    """Starts gateways with settings of the test's own; `on_disk` gives one a file in the test's directory."""
    processes = request.session.stash.setdefault(_running, [])
    allow_many_files()
    async with AsyncExitStack() as stack:

        async def start(*, on_disk: bool = False, **settings: Any) -> GatewayProcess:
            if on_disk:
                settings.setdefault("store", f"sqlite:///{tmp_path / 'chat.db'}")
            process = await stack.enter_async_context(GatewayProcess(**settings))
            processes.append(process)
            stack.callback(processes.remove, process)
            return process

        yield start


@pytest.fixture(scope="session")
async def driver() -> AsyncIterator[Driver]:
    """The Node process in which the stock Socket.IO clients of this test process live."""
    driver = Driver(install_packages())
    await driver.start()
    yield driver
    await driver.stop()


@pytest.fixture
async def join(gateway: GatewayProcess, driver: Driver) -> AsyncIterator[Join]:
    """Logs clients in, on any wire, and closes them when the test is over.

    Wires: those of `TRANSPORTS`, "json" and "bare".
    """
    async with AsyncExitStack() as stack:

        async def login(
            wire: str = "json", username: str | None = None, *, to: GatewayProcess | None = None, **options: Any
        ) -> Any:
            url, username = (to or gateway).url, username or fresh_name()
            client: ChatClient | BareClient
            if wire == "json":
                client = JsonClient(url, username, **options)
            elif wire == "bare":
                client = BareClient(url, username, **options)
            else:
                client = SocketIOClient(driver, url, username, **{"transports": TRANSPORTS[wire], **options})
            return await stack.enter_async_context(client)

        yield login


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Each wire that speaks the full protocol."""
    return str(request.param)


@pytest.fixture
async def client(wire: str, join: Join) -> ChatClient:
    """A logged-in user, once on each wire."""
    client: ChatClient = await join(wire)
    return client
