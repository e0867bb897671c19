"""Settings as options of a command: the flag, the environment variable and the help of each."""

from __future__ import annotations

import dataclasses
import difflib
import os
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gateway.config import SECTIONS, Settings, Size, contradiction

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "GATEWAY_"
"""The prefix of the environment variables."""


class SettingOption(click.Option):
    """The flag, the variable and the help of one setting."""

    def __init__(self, field: dataclasses.Field[Any]) -> None:
        also = field.metadata["also"]
        repeatable = field.metadata["repeatable"]
        default = field.default
        if isinstance(field.metadata["type"], Size) and default is not None:
            default = Size.shown(default)  # type: ignore[arg-type]
        if isinstance(default, bool):
            default = "yes" if default else "no"
        without_value = field.metadata["without_value"]
        super().__init__(
            [f"--{field.name.replace('_', '-')}"],
            type=field.metadata["type"],
            metavar=field.metadata["metavar"],
            default=",".join(default) if isinstance(default, tuple) and not repeatable else default,
            envvar=[f"{PREFIX}{field.name.upper()}", *([also] if also else [])],
            help=field.metadata["help"],
            multiple=repeatable,
            **({} if without_value is None else {"is_flag": False, "flag_value": without_value}),
        )
        self.also = also

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value in the environment. An empty variable counts as unset."""
        variable = self.variable()
        return None if variable is None else os.environ[variable]

    def variable(self) -> str | None:
        """The name of the environment variable that applies, if any is set."""
        names = self.envvar if isinstance(self.envvar, list) else []
        return next((name for name in names if os.environ.get(name, "").strip()), None)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Where the value came from: the flag, or a variable."""
        flag = self.opts[0]
        if ctx is not None and ctx.get_parameter_source(self.name or "") is ParameterSource.ENVIRONMENT:
            return f"{self.variable()} ({flag})"
        return flag

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The flag, and its description with the default."""
        notes = (
            []
            if self.default is None or self.default == ()
            else [f"default: {self.default:g}" if isinstance(self.default, float) else f"default: {self.default}"]
        )
        if self.also:
            notes.append(f"also read from {self.also}")
        text = self.help or ""
        return f"{self.opts[0]} {self.make_metavar(ctx)}", text + (f"  [{'; '.join(notes)}]" if notes else "")


def option_for(name: str) -> SettingOption:
    """The option of the setting ``name``, for a command that has only some of them."""
    return SettingOption(next(field for field in dataclasses.fields(Settings) if field.name == name))


class SettingsCommand(click.Command):
    """A command whose options are all settings, shown in sections. ``commands`` are listed below them."""

    def __init__(self, name: str, *, commands: Iterable[click.Command] = (), **kwargs: Any) -> None:
        options: list[click.Parameter] = [SettingOption(field) for field in dataclasses.fields(Settings)]
        super().__init__(name, params=options, **kwargs)
        self._commands = tuple(commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: list[tuple[str, list[tuple[str, str]]]] = []
        for parameter in self.get_params(ctx):
            name = SECTIONS.get(parameter.name or "")
            if name is not None:
                sections.append((name, []))
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[-1][1].append(record)
        if self._commands:
            sections.append(
                ("Commands", [(command.name or "", command.get_short_help_str()) for command in self._commands])
            )
        for name, records in sections:
            with formatter.section(name):
                formatter.write_dl(records, col_max=32)


def settings_from(ctx: click.Context) -> Settings:
    """The settings from the command line and the environment.

    A platform that sets ``PORT`` connects from outside the machine, so the default host is then not the loopback. One
    that sets ``WEB_CONCURRENCY`` may do so by itself, as Heroku does, so that never decides where data is kept.
    Raises click.UsageError if settings contradict each other.
    """
    values: dict[str, Any] = dict(ctx.params)
    if not values["host"]:
        port_given = ctx.get_parameter_source("port") is not ParameterSource.DEFAULT
        if os.environ.get("PORT", "").strip():
            values["host"] = ("0.0.0.0",)  # noqa: S104 - what PORT asks for
        elif port_given or values["unix_socket"] is None:
            values["host"] = ("127.0.0.1",)
    if values["store"].startswith("sqlite:") and _is_from(ctx, "workers", "WEB_CONCURRENCY"):
        values["workers"] = 1
    settings = Settings(**values)
    problem = contradiction(settings)
    if problem is not None:
        raise click.UsageError(problem, ctx)
    return settings


def _is_from(ctx: click.Context, name: str, variable: str) -> bool:
    """Whether the value of a setting was read from that environment variable."""
    if ctx.get_parameter_source(name) is not ParameterSource.ENVIRONMENT:
        return False
    return any(
        option.name == name and option.variable() == variable
        for option in ctx.command.params
        if isinstance(option, SettingOption)
    )


def unknown_variables() -> list[tuple[str, str | None]]:
    """Environment variables that look like settings but are not, each with the one that was probably meant, if any."""
    known = [f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(Settings)]
    are_set = (name for name, value in os.environ.items() if name.startswith(PREFIX) and value.strip())
    names = sorted(name for name in are_set if name not in known)
    return [(name, next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), None)) for name in names]
