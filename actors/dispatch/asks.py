"""An ask: an event whose sender waits for the outcome, and is answered whatever happens.

Law of this file: an ask never raises for load or failure and never outlives its deadline by more than
a tenth of a second; an asker that goes away takes its event with it. One timer watches all asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from laneway.actors.alarm import Alarm
from laneway.actors.dispatch.books import Ended, OnDone
from laneway.actors.dispatch.cancels import Cancel
from laneway.actors.endings import expired, failed
from laneway.actors.ports import Clock, Outcome
from laneway.routing.envelope import DEADLINE, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.errors import LanewayError

__all__ = ["Asks"]

_SLACK_S: Final = 0.1
"""A handler that is stopped at its deadline gets this long to answer before the asker stops waiting."""
_NO_ANSWER: Final = expired()


class Asks:
    """The asks of one dispatcher.

    Args:
        offer: takes an event in; returns why not, or None and later calls back exactly once.
        abort: ends the event of an asker that went away, without remembering it.
    """

    __slots__ = ("_abort", "_alarm", "_clock", "_offer", "_open")

    def __init__(
        self,
        clock: Clock,
        offer: Callable[[Envelope, OnDone, bool], LanewayError | None],
        abort: Callable[[Cancel], object],
    ) -> None:
        self._open: dict[asyncio.Future[Outcome], float] = {}
        self._clock = clock
        self._offer = offer
        self._abort = abort
        self._alarm = Alarm(clock, self._look)

    @property
    def waiting(self) -> int:
        """Askers that wait now."""
        return len(self._open)

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
        outcome = None
        self._open[answer] = late_at = max(now, env[DEADLINE]) + _SLACK_S
        self._alarm.set(late_at)
        try:
            outcome = await answer
        finally:
            del self._open[answer]
            if answer.cancelled() or outcome is _NO_ANSWER:
                self._abort(Cancel(env[TENANT], env[SESSION], event_id=envelope_id(env), reason="nobody waits for it"))
        return outcome

    def _look(self) -> None:
        """Answer those whose time is over."""
        now, nearest = self._clock.now(), float("inf")
        for answer, late_at in self._open.items():
            if late_at > now:
                nearest = min(nearest, late_at)
            elif not answer.done():
                answer.set_result(_NO_ANSWER)
        self._alarm.set(nearest)


def _not_beyond(env: Envelope, deadline: float) -> Envelope:
    producer, counter, kind, tenant, session, run, entity, lane, own, trace, after, body, accepted = env
    nearer = min(own, deadline)
    return (producer, counter, kind, tenant, session, run, entity, lane, nearer, trace, after, body, accepted)


def _tell(answer: asyncio.Future[Outcome], ended: Sequence[Ended]) -> None:
    if not answer.done():
        answer.set_result(ended[0][1])
