"""The command ``gateway``: it serves, unless its first argument is one of the ``commands``."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.commands import asyncapi, backup, migrate
from gateway.commands.launch import launch
from gateway.options import SettingsCommand, settings_from
from gateway.streams import open_missing

HELP = """A real-time chat gateway: Socket.IO and plain WebSocket clients in the same rooms, nothing lost.

Without options it keeps its messages in ./gateway.db and serves this machine only: open
http://127.0.0.1:8080/ in a browser. It runs until Ctrl-C or SIGTERM.
"""

EPILOG = (
    "Every option is also an environment variable: --log-level is GATEWAY_LOG_LEVEL. An option overrides its variable; "
    "an empty variable counts as unset."
)

COMMANDS: tuple[click.Command, ...] = (asyncapi.command, backup.command, migrate.command)
"""The subcommands. The other modules in ``gateway/commands/`` are what ``gateway`` does without one."""

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(arguments: list[str] | None = None) -> None:
    """Run the command. Exit status: 0 for success, 1 if it cannot be done, 2 for an invalid setting, 3 if the gateway
    did not shut down completely.
    """
    open_missing()
    words = sys.argv[1:] if arguments is None else arguments
    named = next((command for command in COMMANDS if [command.name] == words[:1]), None)
    if named is None:
        command, program = _serve_command(), "gateway"
    else:
        command, program, words = named, f"gateway {named.name}", words[1:]
    try:
        command.main(words, prog_name=program, standalone_mode=False, **CONTEXT)
    except click.ClickException as error:
        print(f"{program}: {error.format_message()}", file=sys.stderr)  # noqa: T201 - what a command does
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)  # like a program that was ended by Ctrl-C


def _serve_command() -> click.Command:
    command = SettingsCommand("gateway", callback=_serve, help=HELP, epilog=EPILOG, commands=COMMANDS)
    return click.version_option(package_name="chat-gateway", message="gateway %(version)s")(command)


@click.pass_context
def _serve(ctx: click.Context, /, **_: Any) -> None:
    launch(settings_from(ctx))
