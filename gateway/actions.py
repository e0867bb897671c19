"""The words that clients say: each action, its payload, and what it does. Every answer is made here, for all wires."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.buckets import TokenBucket
from gateway.errors import GatewayError, InvalidPayload, RateLimited, Unauthorized, Unavailable, UnknownAction
from gateway.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.chat import Chat
    from gateway.engines.effects import Session
    from gateway.schemas import ActionPayloads, Payload

    Reply = dict[str, Any]
    Handler = Callable[[str, object], Awaitable[Reply]]

Request = TypeVar("Request")
logger = get_logger(__name__)


class Caller:
    """A connection, as actions see it: whose session it holds and how fast it may go."""

    __slots__ = ("bucket", "session")

    def __init__(self) -> None:
        self.session: Session | None = None
        self.bucket: TokenBucket | None = None


class Actions:
    """The table of actions."""

    def __init__(
        self, chat: Chat, payloads: ActionPayloads, *, rate_limit: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``rate_limit``: actions a second for one caller; 0 is no limit."""
        add_users = _action(payloads.add_users, chat.add_users)
        self._table: dict[str, Handler] = {
            "create-room": _action(payloads.create_room, chat.create_room),
            "add-user": add_users,
            "add-users": add_users,
            "open-direct": _action(payloads.open_direct, chat.open_direct),
            "send-msg": _action(payloads.send_message, chat.send_message),
            "leave-room": _action(payloads.in_room, chat.leave_room),
            "list-rooms": _action(payloads.nothing, chat.list_rooms),
            "list-members": _action(payloads.list_members, chat.list_members),
            "history": _action(payloads.read_history, chat.read_history),
            "find-users": _action(payloads.find_users, chat.find_users),
            "typing": _action(payloads.in_room, chat.show_typing),
        }
        self._rate_limit = rate_limit
        self._clock = clock

    async def perform(self, caller: Caller, action: object, payload: object) -> Reply:
        """Do what ``action`` says with ``payload``, both as the client sent them; never raises.

        Returns ``{ok: True, …}`` or ``{ok: False, error: {code, message, fields?, retry_after?}}``.
        """
        try:
            return {"ok": True, **await self._start(caller, action, payload)}
        except GatewayError as error:
            return refusal(error)
        except Exception:
            logger.exception("an action failed", action=action)
            return refusal(Unavailable("The gateway made a mistake; try again later."))

    def _start(self, caller: Caller, action: object, payload: object) -> Awaitable[Reply]:
        """Check what is asked for, and begin."""
        if caller.session is None:
            raise Unauthorized("This connection has no session any more.")
        if self._rate_limit:
            self._check_rate(caller)
        if not isinstance(action, str):
            raise InvalidPayload.in_fields({"action": ["Must be a string."]})
        handler = self._table.get(action)
        if handler is None:
            raise UnknownAction(action, self._table)
        return handler(caller.session.username, payload)

    def _check_rate(self, caller: Caller) -> None:
        now = self._clock()
        if caller.bucket is None:
            caller.bucket = TokenBucket(self._rate_limit, max(self._rate_limit, 1.0), now)
        retry_after = caller.bucket.take(now)
        if retry_after:
            raise RateLimited.actions(self._rate_limit, retry_after)


def refusal(error: GatewayError) -> Reply:
    """The reply that says why not."""
    return {"ok": False, "error": error.as_dict()}


def _action(payload: Payload[Request], use_case: Callable[[str, Request], Awaitable[Reply]]) -> Handler:
    """Validate, then act."""

    def handle(actor: str, value: object) -> Awaitable[Reply]:
        return use_case(actor, payload.load(value))

    return handle
