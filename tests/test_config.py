"""Settings: one declaration is the flag, the variable, the help and the validation."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway.config import Settings
from gateway.options import SettingsCommand, settings_from

SHOWN = {
    "allowed_origins": "*",
    "recovery_window": "120",
    "ping_interval": "25",
    "ping_timeout": "20",
    "rate_limit": "0",
    "add_limit": "1000",
    "decline_window": "3600",
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
        "list_users": "all",
        "log_format": "json",
        "allowed_origins": "https://a.example, http://b.example:3000/",
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


def test_names_are_reserved_no_longer_than_sessions_last() -> None:
    """A reservation beyond the window would be one of nobody's; up to it, and without it, it is fine."""
    assert parse(["--recovery-window", "5"]).reserve_names is None
    for seconds in ("0", "5"):
        assert parse(["--recovery-window", "5", "--reserve-names", seconds]).reserve_names == float(seconds)
    with pytest.raises(click.UsageError) as caught:
        parse(["--recovery-window", "5", "--reserve-names", "5.5"])
    assert "--reserve-names 5.5" in caught.value.message
    assert (caught.value.exit_code, "\n" in caught.value.message) == (2, False)


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
