"""Settings: one declaration is the flag, the variable, the help and the validation."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.options import SettingsCommand, settings_from

SHOWN = {
    "allowed_origins": "*",
    "recovery_window": "120",
    "ping_interval": "25",
    "ping_timeout": "20",
    "rate_limit": "0",
}

COMMAND = Path(sys.executable).with_name("gateway")


def parse(arguments: list[str] | None = None, **environment: str) -> Settings:
    """Settings from arguments and environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PORT", "REDIS_URL", *(name for name in os.environ if name.startswith("GATEWAY_"))):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        values = SettingsCommand("gateway").make_context("gateway", arguments or []).params
        return settings_from(values, port_from_platform="PORT" in environment)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which is expected to end at once."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [COMMAND, *arguments], env={**kept, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_defaults_serve_the_machine_itself() -> None:
    settings = parse()
    assert (settings.host, settings.port, settings.store) == ("127.0.0.1", 8080, "sqlite:///gateway.db")


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_a_flag_and_a_variable(field: dataclasses.Field[object]) -> None:
    samples = {
        "host": "::1",
        "store": "sqlite://",
        "log_level": "debug",
        "log_format": "json",
        "allowed_origins": "https://a.example, http://b.example:3000/",
        "base_path": "/chat",
        "trust_proxy": "10.0.0.0/8, ::1",
    }
    sample = samples.get(field.name, "7")
    by_flag = parse([f"--{field.name.replace('_', '-')}", sample])
    by_variable = parse(**{f"GATEWAY_{field.name.upper()}": sample})
    assert getattr(by_flag, field.name) == getattr(by_variable, field.name) != getattr(parse(), field.name)


def test_a_flag_wins_over_a_variable() -> None:
    assert parse(["--port", "1"], GATEWAY_PORT="2", PORT="3").port == 1
    assert parse(GATEWAY_PORT="2", PORT="3").port == 2


def test_port_as_a_platform_sets_it_opens_the_gateway_to_the_network() -> None:
    settings = parse(PORT="5000")
    assert (settings.host, settings.port) == ("0.0.0.0", 5000)  # noqa: S104 - what the platform asks for
    assert parse(["--host", "127.0.0.1"], PORT="5000").host == "127.0.0.1"


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
def test_origins_are_brought_into_the_form_of_browsers(written: str, meant: str) -> None:
    assert parse(["--allowed-origins", written]).allowed_origins == (meant,)


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/a/b-c/d.e"])
def test_a_base_path_has_no_slash_at_its_end(path: str) -> None:
    assert parse(["--base-path", path]).base_path == path.rstrip("/")
    assert parse(["--base-path", "/"]).base_path == "/"


def test_proxies_are_trusted_by_address_or_all_of_them() -> None:
    """The flag may stand alone; its variable says it with a word."""
    everybody = parse(["--trust-proxy", "*"]).trust_proxy
    assert everybody is not None
    assert len(everybody) == 2
    assert parse(["--trust-proxy", "--port", "1"]).trust_proxy == everybody
    assert parse(["--port", "1", "--trust-proxy"]).trust_proxy == everybody
    assert parse(GATEWAY_TRUST_PROXY="true").trust_proxy == everybody
    assert not parse(GATEWAY_TRUST_PROXY="false").trust_proxy
    assert not parse().trust_proxy
    assert [str(network) for network in parse(["--trust-proxy", "10.0.0.0/8, ::1"]).trust_proxy or ()] == [
        "10.0.0.0/8",
        "::1/128",
    ]


@pytest.mark.parametrize(
    ("flag", "value", "problem"),
    [
        ("--port", "http", "'http' is not a valid integer"),
        ("--port", "70000", "70000 is not in the range 0<=x<=65535"),
        ("--store", "gateway.db", "is not sqlite:///PATH or sqlite://"),
        ("--store", "postgres://db", "is not sqlite:///PATH or sqlite://"),
        ("--store", "sqlite://gateway.db", "is not sqlite:///PATH or sqlite://"),
        ("--store", "redis://localhost", "this version does not have yet"),
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
        ("--keep-alive", "0", "0"),
    ],
)
def test_a_wrong_value_is_one_clear_line_and_status_2(flag: str, value: str, problem: str) -> None:
    result = run(flag, value)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("gateway: ")
    assert flag in result.stderr
    assert problem in result.stderr


def test_a_wrong_variable_is_named() -> None:
    result = run(GATEWAY_HISTORY_SIZE="many")
    assert result.returncode == 2
    assert "history-size" in result.stderr
    assert run(REDIS_URL="redis://localhost").returncode == 2


def test_an_unknown_flag_is_one_clear_line() -> None:
    result = run("--speed", "fast")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--speed" in result.stderr


def test_help_names_every_flag_and_default_and_says_how_variables_are_named() -> None:
    result = run("--help")
    assert result.returncode == 0
    words = " ".join(result.stdout.split())
    for field in dataclasses.fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in words
        assert str(field.metadata["help"]).split("  ", maxsplit=1)[0] in words
        assert field.default is None or f"default: {SHOWN.get(field.name, field.default)}" in words
    assert "GATEWAY_LOG_LEVEL" in words
    assert "also read from PORT" in words
    assert "also read from REDIS_URL" in words
    assert max(len(line) for line in result.stdout.splitlines()) <= 100


def test_a_disk_that_does_not_last_is_warned_of(tmp_path: Path) -> None:
    """On Heroku, which sets DYNO, the start names what would last; anywhere else, and in memory, it does not."""

    def start(store: str, **environment: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends again
            result = run("--store", store, "--port", str(taken.getsockname()[1]), **environment)
        assert result.returncode == 1
        return result.stderr

    on_disk = f"sqlite:///{tmp_path / 'gateway.db'}"
    assert "redis://" in start(on_disk, DYNO="web.1")
    assert "redis://" not in start(on_disk)
    assert "redis://" not in start("sqlite://", DYNO="web.1")


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "gateway"]], ids=["gateway", "python -m"])
def test_version_is_shown(command: list[str | Path]) -> None:
    """By the command, and by the module for those who have not activated the environment."""
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("gateway ")


@pytest.mark.parametrize(
    ("store", "reason"),
    [("sqlite:////missing/folder/gateway.db", "its folder does not exist"), ("sqlite:////", "it is a folder")],
)
def test_a_store_that_cannot_be_used_is_one_clear_line(store: str, reason: str) -> None:
    result = run("--port", "0", "--store", store)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert reason in result.stderr
