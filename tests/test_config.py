"""Settings: one declaration is the flag, the variable, the help and the validation."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway.config import Settings, Size
from gateway.options import SettingsCommand, settings_from
from harness.client import Join
from harness.names import fresh_name
from harness.process import GatewayProcess
from harness.raw import RawSocketIO

SHOWN = {
    "allowed_origins": "*",
    "recovery_window": "120",
    "ping_interval": "25",
    "ping_timeout": "20",
    "rate_limit": "0",
    "add_limit": "1000",
    "max_store": "10GiB",
    "decline_window": "3600",
    "history_bytes": "16MiB",
    "keep_alive": "75",
    "require_durable": "no",
}

COMMAND = Path(sys.executable).with_name("gateway")


def parse(arguments: list[str] | None = None, **environment: str) -> Settings:
    """Settings from arguments and environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "PORT",
            "REDIS_URL",
            "WEB_CONCURRENCY",
            *(name for name in os.environ if name.startswith("GATEWAY_")),
        ):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        return settings_from(SettingsCommand("gateway").make_context("gateway", arguments or []))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which is expected to end at once."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "PYTHONPATH"}}
    return subprocess.run(
        [COMMAND, *arguments], env={**kept, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_by_default_only_the_machine_itself_is_served() -> None:
    settings = parse()
    assert (settings.host, settings.port, settings.store) == (("127.0.0.1",), 8080, "sqlite:///gateway.db")


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_a_flag_and_a_variable(field: dataclasses.Field[object]) -> None:
    samples = {
        "host": "::1",
        "unix_socket": "/run/gateway.sock",
        "max_frame_size": "200000",
        "max_store": "7MB",
        "store": "sqlite://",
        "log_level": "debug",
        "list_users": "all",
        "transports": "websocket",
        "log_format": "json",
        "allowed_origins": "https://a.example, http://b.example:3000/",
        "base_path": "/chat",
        "node_address": "10.0.0.5:8080",
        "trust_proxy": "10.0.0.0/8, ::1",
        "require_durable": "yes",
    }
    sample = samples.get(field.name, "7")
    by_flag = parse([f"--{field.name.replace('_', '-')}", sample])
    by_variable = parse(**{f"GATEWAY_{field.name.upper()}": sample})
    assert getattr(by_flag, field.name) == getattr(by_variable, field.name) != getattr(parse(), field.name)


def test_a_flag_wins_over_a_variable() -> None:
    assert parse(["--port", "1"], GATEWAY_PORT="2", PORT="3").port == 1
    assert parse(GATEWAY_PORT="2", PORT="3").port == 2


def test_a_port_variable_of_a_platform_opens_the_gateway_to_the_network() -> None:
    settings = parse(PORT="5000")
    assert (settings.host, settings.port) == (("0.0.0.0",), 5000)  # noqa: S104 - what the platform asks for
    assert parse(["--host", "127.0.0.1"], PORT="5000").host == ("127.0.0.1",)


def test_an_empty_variable_counts_as_unset() -> None:
    """Neither a setting's own nor the platform's; the next one counts. Compose files pass on what nobody has set."""
    for empty in ("", " "):
        assert parse(PORT=empty).host == ("127.0.0.1",)
        assert parse(GATEWAY_PORT=empty, PORT="3").port == 3
        assert parse(REDIS_URL=empty).store == "sqlite:///gateway.db"
    everything = {f"GATEWAY_{field.name.upper()}": "" for field in dataclasses.fields(Settings)}
    assert parse(**everything, PORT="", REDIS_URL="") == parse()


def test_hosts_are_given_by_several_flags_or_a_list() -> None:
    assert parse(["--host", "::", "--host", "127.0.0.1"]).host == ("::", "127.0.0.1")
    assert parse(GATEWAY_HOST="::, 127.0.0.1").host == ("::", "127.0.0.1")
    assert parse(GATEWAY_HOST="::1,,127.0.0.1,").host == ("::1", "127.0.0.1")
    assert parse(["--host", "[::1]"]).host == ("::1",)


def test_a_unix_socket_replaces_the_default_port() -> None:
    assert parse(["--unix-socket", "g.sock"]).host == ()
    assert parse(["--unix-socket", "g.sock", "--port", "1"]).host == ("127.0.0.1",)
    assert parse(["--unix-socket", "g.sock", "--host", "::1"]).host == ("::1",)
    assert parse(["--unix-socket", "g.sock"], PORT="5").host == ("0.0.0.0",)  # noqa: S104 - as above


def test_the_address_of_a_node_is_a_host_and_a_port() -> None:
    for written, meant in (("Node7.Example:80", "node7.example:80"), ("[FD00::0:5]:8080", "[fd00::5]:8080")):
        assert parse(["--node-address", written]).node_address == meant


@pytest.mark.parametrize("wrong", ["10.0.0.5", "http://10.0.0.5:80", "10.0.0.5:99999", ":80", "fd00::5:8080", "a b:80"])
def test_the_address_of_a_node_that_nobody_could_reach_is_refused(wrong: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a host and a port such as"):
        parse(["--node-address", wrong])


def test_origins_are_a_list() -> None:
    settings = parse(["--allowed-origins", "https://a.example, http://b.example:3000/"])
    assert settings.allowed_origins == ("https://a.example", "http://b.example:3000")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("HTTPS://Chat.Example:443/", "https://chat.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://BU\u0308CHER.example:8443", "https://xn--bcher-kva.example:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://[0:0::1]:8443", "https://[::1]:8443"),
        ("https://*.Example", "https://*.example"),
        ("http://*.example:3000", "http://*.example:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("null", "null"),
        ("file://", "file://"),
    ],
)
def test_origins_are_normalized_as_browsers_send_them(written: str, meant: str) -> None:
    assert parse(["--allowed-origins", written]).allowed_origins == (meant,)


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/a/b-c/d.e"])
def test_a_trailing_slash_of_a_base_path_is_dropped(path: str) -> None:
    assert parse(["--base-path", path]).base_path == path.rstrip("/")
    assert parse(["--base-path", "/"]).base_path == "/"


def test_proxies_are_trusted_by_address_or_all_are() -> None:
    """The flag may stand alone; its variable says it with a word."""
    everybody = parse(["--trust-proxy", "*"]).trust_proxy
    assert everybody is not None
    assert len(everybody) == 2
    assert parse(["--trust-proxy", "--port", "1"]).trust_proxy == everybody
    assert parse(["--port", "1", "--trust-proxy"]).trust_proxy == everybody
    assert parse(GATEWAY_TRUST_PROXY="true").trust_proxy == everybody
    assert not parse(GATEWAY_TRUST_PROXY="false").trust_proxy
    assert not parse().trust_proxy
    assert parse(GATEWAY_TRUST_PROXY="10.0.0.1,") == parse(["--trust-proxy", "10.0.0.1"])
    assert [str(network) for network in parse(["--trust-proxy", "10.0.0.0/8, ::1"]).trust_proxy or ()] == [
        "10.0.0.0/8",
        "::1/128",
    ]


@pytest.mark.parametrize(
    ("flag", "value", "problem"),
    [
        ("--port", "http", "'http' is not a valid integer"),
        ("--port", "70000", "70000 is not in the range 0<=x<=65535"),
        ("--store", "gateway.db", "is not sqlite:///PATH, sqlite:// (memory) or redis://HOST"),
        ("--store", "postgres://db", "is not sqlite:///PATH, sqlite:// (memory) or redis://HOST"),
        ("--store", "sqlite:///file:x.db?mode=memory", "is not sqlite:///PATH, sqlite:// (memory) or redis://HOST"),
        ("--store", "sqlite://gateway.db", "is not sqlite:///PATH, sqlite:// (memory) or redis://HOST"),
        ("--store", "gateway.db", "did you mean sqlite:///gateway.db?"),
        ("--store", "/data/gateway.db", "did you mean sqlite:////data/gateway.db?"),
        ("--store", "sqlite://gateway.db", "did you mean sqlite:///gateway.db?"),
        ("--store", "sqlite:gateway.db", "did you mean sqlite:///gateway.db?"),
        ("--store", ":memory:", "did you mean sqlite://?"),
        ("--host", "", "'' is not an address"),
        ("--host", "127.0.0.1,::1", "is not an address"),
        ("--host", "http://localhost", "is not an address"),
        ("--unix-socket", "/run/", "is not the path of a socket"),
        ("--store", "redis://", "names no server"),
        ("--max-members", "0", "0 is not in the range x>=1"),
        ("--ping-interval", "soon", "'soon' is not a valid number"),
        ("--recovery-window", "inf", "'inf' is not a number of seconds"),
        ("--rate-limit", "nan", "'nan' is not a number of seconds"),
        ("--log-level", "loud", "'loud' is not one of"),
        ("--allowed-origins", "example.com", "is not an origin such as https://chat.example"),
        ("--allowed-origins", "example.com", "did you mean https://example.com?"),
        ("--allowed-origins", "https://a.example/page", "did you mean https://a.example?"),
        ("--allowed-origins", "wss://a.example", "did you mean https://a.example?"),
        ("--allowed-origins", "*.a.example", "did you mean https://*.a.example?"),
        ("--allowed-origins", "https://*", "is not an origin such as"),
        ("--allowed-origins", "https://a.*.example", "is not an origin such as"),
        ("--allowed-origins", "https://a.example:70000", "is not an origin such as"),
        ("--base-path", "chat", "did you mean /chat?"),
        ("--base-path", "//chat", "did you mean /chat?"),
        ("--base-path", "/a/../b", "is not a path such as /chat"),
        ("--base-path", "/a?b", "is not a path such as /chat"),
        ("--base-path", "/\u00e4", "is not a path such as /chat"),
        ("--base-path", "https://a.example/chat", "is not a path such as /chat"),
        ("--trust-proxy", "proxy.example", "is not an address or a network such as 10.0.0.0/8"),
        ("--trust-proxy", "10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("--keep-alive", "0", "0.0 is not in the range x>=1"),
    ],
)
def test_a_wrong_value_is_reported_in_one_line_with_status_2(flag: str, value: str, problem: str) -> None:
    result = run(flag, value)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("gateway: ")
    assert flag in result.stderr
    assert problem in result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_HISTORY_SIZE", "many"),
        ("GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("PORT", "http"),
        ("REDIS_URL", "redis:///"),
        ("GATEWAY_STORE", "gateway.db"),
        ("GATEWAY_HOST", "0.0.0.0,a/b"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    """And the flag that would be right instead."""
    result = run(**{name: value})
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f" {name} (--" in result.stderr


def test_a_wrong_flag_is_not_blamed_on_a_variable() -> None:
    result = run("--port", "x", PORT="5")
    assert (result.returncode, "--port" in result.stderr, "PORT" in result.stderr) == (2, True, False)


def test_an_unknown_variable_causes_a_warning() -> None:
    """With the one that may be meant; known ones, empty ones and those of others are not."""
    log = run(
        "--host", "192.0.2.1", GATEWAY_PROT="1", GATEWAY_XYZ="2", GATEWAY_PORT="3", GATEWAYS="4", GATEWAY_EMPTY=""
    ).stderr
    warnings = [line for line in log.splitlines() if "unknown environment variable" in line]
    assert len(warnings) == 2
    assert "GATEWAY_PROT" in warnings[0]
    assert "GATEWAY_PORT" in warnings[0]
    assert "GATEWAY_XYZ" in warnings[1]


LARGEST = json.dumps({"action": "send-msg", "room": "🙂" * 64, "content": "🙂" * 10_000, "id": "🙂" * 64, "ref": 1})
"""A message as large as the limits allow it, from a client that writes ASCII."""


def test_a_frame_is_large_enough_for_a_message() -> None:
    """--max-frame-size has to hold the largest message that --max-content-length and the others allow, also escaped.
    The refusal says both numbers, and what it suggests is accepted.
    """
    assert len(LARGEST) < parse().max_frame_size
    for words in (["--max-frame-size", str(len(LARGEST) - 1)], ["--max-content-length", "20000"]):
        result = run(*words)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert f"{words[0]} {words[1]}" in result.stderr
        raised, lowered = re.findall(
            r"--max-frame-size to (\d+) or lower --max-content-length to (\d+)", result.stderr
        )[0]
        assert parse([*words, "--max-frame-size", raised])
        assert parse([*words, "--max-content-length", lowered])
    refused = run("--max-users", "10000")
    assert (refused.returncode, "--max-users to" in refused.stderr) == (2, True)


@pytest.mark.parametrize("wire", ["json", "raw"])
async def test_the_largest_message_is_accepted(gateway: GatewayProcess, join: Join, wire: str) -> None:
    """What the limits allow is not cut off by another limit, on either wire."""
    bob = await join(to=gateway)
    room = {"room": "🙂" * 60 + secrets.token_hex(2), "users": [bob.username]}
    message = {"room": room["room"], "content": "🙂" * 10_000, "id": "🙂" * 64}
    if wire == "json":
        client = await join("json", to=gateway)
        for action, payload in {"create-room": room, "send-msg": message}.items():
            await client.send(json.dumps({"action": action, **payload, "ref": action}))
            assert (await client.replies.take(lambda reply: True, "a reply"))["ok"]
    else:
        async with RawSocketIO(gateway.url) as raw:
            await raw.connect({"username": fresh_name()})
            for action, payload in {"create-room": room, "send-msg": message}.items():
                assert '"ok":true' in await raw.call_text(json.dumps([action, payload]))
    assert (await bob.next_event("message")).fields["content"] == message["content"]


def test_an_unknown_flag_is_reported_in_one_line() -> None:
    result = run("--speed", "fast")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--speed" in result.stderr


def test_help_lists_every_flag_its_default_and_the_names_of_variables() -> None:
    result = run("--help")
    assert result.returncode == 0
    words = " ".join(result.stdout.split())
    for field in dataclasses.fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in words
        assert str(field.metadata["help"]).split("  ", maxsplit=1)[0] in words
        assert field.default in (None, ()) or f"default: {SHOWN.get(field.name, field.default)}" in words
    headings = ["Network:", "Storage:", "Limits:", "Other:", "Commands:"]
    assert [line for line in result.stdout.splitlines() if line in headings] == headings
    assert "GATEWAY_LOG_LEVEL" in words
    assert "also read from PORT" in words
    assert "also read from REDIS_URL" in words
    assert max(len(line) for line in result.stdout.splitlines()) <= 100


def test_names_are_reserved_no_longer_than_the_recovery_window() -> None:
    """A reservation beyond the window would outlive its session; up to it, and without one, it is accepted."""
    assert parse(["--recovery-window", "5"]).reserve_names is None
    for seconds in ("0", "5"):
        assert parse(["--recovery-window", "5", "--reserve-names", seconds]).reserve_names == float(seconds)
    with pytest.raises(click.UsageError) as caught:
        parse(["--recovery-window", "5", "--reserve-names", "5.5"])
    assert "--reserve-names 5.5" in caught.value.message
    assert (caught.value.exit_code, "\n" in caught.value.message) == (2, False)


def test_a_store_on_a_temporary_disk_causes_a_warning(tmp_path: Path) -> None:
    """On Heroku, which sets DYNO, the start names what would last; in memory, it says so; anywhere else, neither."""

    def start(store: str, **environment: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends again
            result = run("--store", store, "--port", str(taken.getsockname()[1]), **environment)
        assert result.returncode == 1
        return result.stderr

    on_disk = f"sqlite:///{tmp_path / 'gateway.db'}"
    assert "the store is in memory" in start("sqlite://")
    assert "the store is in memory" in start("sqlite:///:memory:")
    assert "the store is in memory" not in start(on_disk)
    assert "redis://" in start(on_disk, DYNO="web.1")
    assert "redis://" not in start(on_disk)
    assert "redis://" not in start("sqlite://", DYNO="web.1")


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "gateway"]], ids=["gateway", "python -m"])
def test_the_version_is_printed(command: list[str | Path]) -> None:
    """By the command, and by the module for those who have not activated the environment."""
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("gateway ")


@pytest.mark.parametrize(
    ("store", "reason"),
    [("sqlite:////missing/folder/gateway.db", "its folder does not exist"), ("sqlite:////", "it is a folder")],
)
def test_an_unusable_store_is_reported_in_one_line(store: str, reason: str) -> None:
    result = run("--port", "0", "--store", store)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.count(reason) == 1


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("1.5GB", 1_500_000_000),
        ("10GiB", 10 * 2**30),
        ("10g", 10 * 2**30),
        ("64K", 65_536),
        ("2TiB", 2**41),
        ("7b", 7),
    ],
)
def test_sizes_may_have_units(written: str, size: int) -> None:
    assert parse(["--history-bytes", written]).history_bytes == size


def test_max_store_has_a_lower_bound() -> None:
    """What an empty one takes would be refused too late: when the first room is to be made."""
    assert parse(["--max-store", "1MB"]).max_store == 1_000_000
    result = run("--max-store", "100KB")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "'100KB' is too small: at least 1000000 bytes are needed" in result.stderr


@pytest.mark.parametrize("written", ["", "0", "-1", "10XB", "GiB", "1e9", "ten", "1.GB", "nan", "\u0661GB", "9" * 40])
def test_text_that_is_not_a_size_is_refused(written: str) -> None:
    result = run("--max-store", written)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "max-store" in result.stderr


def test_a_size_is_shown_as_people_write_it() -> None:
    assert [Size.shown(size) for size in (1, 1000, 1024, 1536, 2**20, 10 * 2**30)] == [
        "1", "1000", "1KiB", "1536", "1MiB", "10GiB"
    ]  # fmt: skip
