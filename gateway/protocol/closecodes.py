"""Every code with which a WebSocket is closed (RFC 6455, section 7.4), and whether the client should come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CloseCode:
    """``text`` goes with the code into the close frame; it is empty if the frame carries another text. ``when`` is a
    phrase.
    """

    code: int
    name: str
    when: str
    come_back: bool
    text: str = ""


NORMAL = CloseCode(1000, "normal", "the client closed, and its session has ended", come_back=False)
PROTOCOL_ERROR = CloseCode(1002, "protocol_error", "a frame breaks RFC 6455", come_back=False)
NOT_UTF8 = CloseCode(1007, "not_utf8", "a text frame is not UTF-8", come_back=False)
NOT_LOGGED_IN = CloseCode(
    1008, "not_logged_in", "the first frame could not log in; the reply before it says why", come_back=False
)
TOO_LARGE = CloseCode(1009, "too_large", "a frame is larger than `--max-frame-size`", come_back=False)
RESTART = CloseCode(1012, "restart", "the gateway restarts", come_back=True, text="The gateway restarts; come back.")
TAKEN_OVER = CloseCode(
    4001,
    "taken_over",
    "the session was resumed on another connection",
    come_back=False,
    text="The session was resumed on another connection.",
)
TOO_SLOW = CloseCode(
    4008,
    "too_slow",
    "too much was unsent",
    come_back=True,
    text="Too much was unsent; come back for what you missed.",
)
MISSED = CloseCode(
    4008,
    "missed",
    "an event could not be delivered",
    come_back=True,
    text="Something could not be delivered; come back for what you missed.",
)

CLOSE_CODES: Final = (
    NORMAL,
    PROTOCOL_ERROR,
    NOT_UTF8,
    NOT_LOGGED_IN,
    TOO_LARGE,
    RESTART,
    TAKEN_OVER,
    TOO_SLOW,
    MISSED,
)
