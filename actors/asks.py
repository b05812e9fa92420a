"""An ask: an event whose sender waits for the outcome, and is answered whatever happens.

Law of this file: an ask never raises for load or failure and never outlives its deadline by more than
a tenth of a second; an asker that goes away takes its event with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from laneway.actors.books import Ended, OnDone
from laneway.actors.cancels import Cancel
from laneway.actors.endings import expired, failed
from laneway.actors.ports import Clock, Outcome
from laneway.routing.envelope import DEADLINE, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.errors import LanewayError

__all__ = ["Asks"]

_SLACK_S: Final = 0.1
"""A handler that is stopped at its deadline gets this long to answer before the asker stops waiting."""


class Asks:
    """The asks of one dispatcher.

    Args:
        offer: takes an event in; returns why not, or None and later calls back exactly once.
        abort: ends the event of an asker that went away, without remembering it.
    """

    __slots__ = ("_abort", "_clock", "_offer", "waiting")

    def __init__(
        self,
        clock: Clock,
        offer: Callable[[Envelope, OnDone, bool], LanewayError | None],
        abort: Callable[[Cancel], object],
    ) -> None:
        self.waiting = 0
        """Askers that wait now."""
        self._clock = clock
        self._offer = offer
        self._abort = abort

    async def ask(self, env: Envelope, timeout_s: float, *, nested: bool = False) -> Outcome:
        """Offer an event and wait for its outcome, at most `timeout_s` seconds.

        Args:
            nested: it belongs to work that is accepted already, so a shutdown does not refuse it.
        """
        now = self._clock.now()
        env = _not_beyond(env, now + timeout_s)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        refusal = self._offer(env, partial(_tell, answer), nested)
        if refusal is not None:
            return failed(refusal)
        self.waiting += 1
        try:
            async with asyncio.timeout(max(0.0, env[DEADLINE] - now) + _SLACK_S):
                return await answer
        except TimeoutError:
            return expired()
        finally:
            self.waiting -= 1
            if answer.cancelled():
                self._abort(Cancel(env[TENANT], env[SESSION], event_id=envelope_id(env), reason="nobody waits for it"))


def _not_beyond(env: Envelope, deadline: float) -> Envelope:
    producer, counter, kind, tenant, session, run, entity, lane, own, trace, after, body, accepted = env
    nearer = min(own, deadline)
    return (producer, counter, kind, tenant, session, run, entity, lane, nearer, trace, after, body, accepted)


def _tell(answer: asyncio.Future[Outcome], ended: Sequence[Ended]) -> None:
    if not answer.done():
        answer.set_result(ended[0][1])
