"""``gateway backup PATH``: copy the store, even while the gateway is running."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from gateway.engines.sqlite.backup import back_up
from gateway.errors import StoreError
from gateway.options import option_for

HELP = """Write a copy of the store to PATH, even while the gateway is running.

The copy contains everything that was acked before the command began. It is synced and checked before it gets its name,
and it is a single file, readable by its owner only. To start a gateway with it: gateway --store sqlite:///PATH
"""


@click.command(
    "backup",
    help=HELP,
    short_help="Write a copy of the store, even while the gateway is running.",
    params=[
        click.Argument(["path"], type=click.Path(path_type=Path)),
        option_for("store"),
        click.Option(["--replace"], is_flag=True, help="Replace an existing file at PATH."),
    ],
)
def command(**values: Any) -> None:
    signal.signal(signal.SIGTERM, _end)
    if hasattr(os, "nice"):
        os.nice(19)  # the gateway goes first
    store = str(values["store"]).removeprefix("sqlite://").removeprefix("/")
    if not store:
        raise click.UsageError("sqlite:// is a store in memory, which cannot be backed up; name one with --store.")
    try:
        backup = back_up(store, values["path"], replace=values["replace"])
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    print(f"{backup.path}: {backup.size:,} bytes")  # noqa: T201 - what a command does


def _end(number: int, frame: object) -> None:
    """Raise SystemExit, so that the temporary file is removed."""
    sys.exit(128 + number)
