"""``gateway asyncapi``: the protocol in a form that tools can read."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import click

from gateway.options import option_for
from gateway.protocol.asyncapi import document
from gateway.protocol.limits import LIMITS

HELP = """Print an AsyncAPI 3 document, in JSON: every action, reply and event on both wires, with examples.

It describes a gateway that is started with the same options and environment.
"""


@click.command(
    "asyncapi",
    help=HELP,
    short_help="Print the protocol as an AsyncAPI 3 document.",
    params=[option_for(limit.setting) for limit in LIMITS],
)
def command(**values: Any) -> None:
    click.echo(json.dumps(document(values, version("chat-gateway")), indent=2, ensure_ascii=False))
