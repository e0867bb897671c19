"""Logging in, to a new session or to one that is resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from gateway.protocol import errors
from gateway.protocol.actions import Action, Done, Example, Request
from gateway.protocol.fields import Anything, Text
from gateway.protocol.limits import CREDENTIAL_LENGTH

Pid = Annotated[str | None, Text("the secret of the session", minimum=0, maximum=CREDENTIAL_LENGTH)]
LastOffset = Annotated[str | None, Text("of the last event seen", minimum=0, maximum=CREDENTIAL_LENGTH)]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in, and which session to resume. On Socket.IO this is ``auth``; on the plain wire the path and the
    query, or the path and the first frame. The form of the username is checked apart: it has an error of its own.
    """

    username: Annotated[Any, Anything()]
    pid: Pid = None
    offset: LastOffset = None


@dataclass(frozen=True, slots=True)
class Resume(Request):
    pid: Pid = None
    offset: LastOffset = None


RESUME = Action(
    name="resume",
    summary="Log in with the first frame: resume a session, or begin one without `pid`.",
    request=Resume,
    reply=Done,
    errors=(errors.USERNAME_TAKEN, errors.LIMIT_REACHED),
    example=Example({"pid": "D19TvSTfhmQKwgT2WvMvEg", "offset": "5f1d3c9a2b7e-4"}, {}),
)
"""An action of the plain wire alone, and only after ``?format=json&resume``. It takes no part in the pipeline."""
