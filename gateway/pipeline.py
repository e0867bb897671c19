"""The pipeline of every action, on every wire: authorise, limit, validate, do, observe, reply."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from gateway.errors import GatewayError, InvalidPayload, Unauthorized, Unavailable, UnknownAction
from gateway.logs import get_logger
from gateway.payloads import Payload
from gateway.protocol.actions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.access.actors import Actor
    from gateway.access.limits import RateLimits
    from gateway.chat import Chat, Fields
    from gateway.observe import Observer
    from gateway.protocol.actions import Action, AnyRequest
    from gateway.protocol.limits import LimitValues

Reply: TypeAlias = dict[str, Any]
"""``{ok: True, …}`` or ``{ok: False, error: {code, message, fields?, retry_after?}}``."""

UNKNOWN_COST = 1.0
"""The cost of a request for an unknown action, in actions, as ``--rate-limit`` counts them."""

logger = get_logger(__name__)


class _Accepted(NamedTuple):
    """An action, and the reader of its payload."""

    action: Action
    payload: Payload[AnyRequest]


class Pipeline:
    def __init__(self, chat: Chat, rates: RateLimits, limits: LimitValues, observer: Observer) -> None:
        """``rates`` limits how often an actor may act, ``limits`` the size of payloads."""
        self._chat = chat
        self._rates = rates
        self._observer = observer
        self._accepted: dict[str, _Accepted] = {}
        for action in ACTIONS:
            accepted = _Accepted(action, Payload(action.request, limits))
            self._accepted |= dict.fromkeys(action.names, accepted)

    async def perform(self, actor: Actor | None, action: object, payload: object) -> Reply:
        """Perform ``action`` with ``payload``, both as the client sent them. Never raises: an error is a reply.

        ``actor`` is None if the connection no longer has a session.
        """
        started = time.perf_counter()
        error = None
        try:
            reply: Reply = {"ok": True, **await self._start(actor, action, payload)}
        except GatewayError as refused:
            error, reply = refused.code, refusal(refused)
        except Exception:
            logger.exception("an action failed", action=action)
            failed = Unavailable("Something went wrong in the gateway; try again later.")
            error, reply = failed.code, refusal(failed)
        self._observer.performed(actor, action, error, time.perf_counter() - started)
        return reply

    def _start(self, actor: Actor | None, action: object, payload: object) -> Awaitable[Fields]:
        """Check a request, and begin to perform it."""
        if actor is None:
            raise Unauthorized("This connection no longer has a session.")
        accepted = self._accepted.get(action) if isinstance(action, str) else None
        self._rates.check_action(actor, UNKNOWN_COST if accepted is None else accepted.action.cost)
        if accepted is None:
            raise self._unknown(action)
        request = accepted.payload.load(payload)
        if users := request.additions(actor.username):
            self._rates.check_additions(actor, users)
        return self._chat.perform(actor.username, request)

    def _unknown(self, action: object) -> GatewayError:
        if isinstance(action, str):
            return UnknownAction(action, self._accepted)
        return InvalidPayload.in_fields({"action": ["Must be a string."]})


def refusal(error: GatewayError) -> Reply:
    """The reply for a request that failed with ``error``."""
    return {"ok": False, "error": error.as_dict()}
