"""Settings as options of a command: the flag, the environment variable and the help of each."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from gateway.config import SECTIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable


class SettingOption(click.Option):
    """The flag, the variable and the help of one setting."""

    def __init__(self, field: dataclasses.Field[Any]) -> None:
        also = field.metadata["also"]
        default = field.default
        without_value = field.metadata["without_value"]
        super().__init__(
            [f"--{field.name.replace('_', '-')}"],
            type=field.metadata["type"],
            metavar=field.metadata["metavar"],
            default=",".join(default) if isinstance(default, tuple) else default,
            envvar=[f"GATEWAY_{field.name.upper()}", *([also] if also else [])],
            help=field.metadata["help"],
            **({} if without_value is None else {"is_flag": False, "flag_value": without_value}),
        )
        self.also = also

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The flag, and what it does with its default."""
        notes = (
            []
            if self.default is None
            else [f"default: {self.default:g}" if isinstance(self.default, float) else f"default: {self.default}"]
        )
        if self.also:
            notes.append(f"also read from {self.also}")
        text = self.help or ""
        return f"{self.opts[0]} {self.make_metavar(ctx)}", text + (f"  [{'; '.join(notes)}]" if notes else "")


def option_for(name: str) -> SettingOption:
    """The option of the setting ``name``, for a command that has a few of them."""
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


def settings_from(values: dict[str, Any], *, port_from_platform: bool) -> Settings:
    """Settings from the parsed options. A platform that sets ``PORT`` routes to the machine, not to its loopback."""
    if values["host"] is None:
        values = {**values, "host": "0.0.0.0" if port_from_platform else "127.0.0.1"}  # noqa: S104 - what PORT asks for
    return Settings(**values)
