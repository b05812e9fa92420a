"""Whoever asks is answered: by the handler, the refusal, or the clock."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.dispatch.asks import Asks
from laneway.actors.ports import Outcome
from laneway.routing.envelope import EnvelopeView
from laneway.routing.errors import RateLimited


class Desk:
    """Takes offers and keeps what it was told."""

    def __init__(self, rig, answer_s=None, refusal=None):
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.offered, self.aborted, self.nested = [], [], []
        self.answer_s, self.refusal = answer_s, refusal
        self.asks = Asks(self.clock, self._offer, self.aborted.append)

    def _offer(self, env, on_done, nested):
        self.offered.append(EnvelopeView(env))
        self.nested.append(nested)
        if self.refusal is None and self.answer_s is not None:
            asyncio.get_running_loop().call_later(self.answer_s, on_done, [(env, Outcome("handled", b"value"))])
        return self.refusal


def test_the_answer_comes_back_and_the_deadline_goes_with_the_event(rig):
    """The event's deadline is the nearer of its own and the asker's."""

    async def main():
        desk = Desk(rig, answer_s=1)
        now = desk.clock.now()
        asked = desk.asks.ask(rig.event(1, deadline=now + 100), 5.0, nested=True)
        assert (await asked).value == b"value"
        assert (await desk.asks.ask(rig.event(2, deadline=now + 3), 5.0)).value == b"value"
        assert [view.deadline for view in desk.offered] == [now + 5, now + 3]
        assert desk.nested == [True, False]
        assert (desk.aborted, desk.asks.waiting) == ([], 0)

    rig.run(main())


def test_a_refusal_is_an_outcome(rig):
    """With the refusal's code; nothing waits."""

    async def main():
        desk = Desk(rig, refusal=RateLimited("slower", retry_after_ms=10))
        outcome = await desk.asks.ask(rig.event(1), 5.0)
        assert (outcome.status, outcome.code, outcome.retryable) == ("failed", "RATE_LIMITED", True)
        assert desk.aborted == []

    rig.run(main())


def test_an_asker_whose_time_is_over_takes_its_event_with_it(rig):
    """A tenth of a second after the deadline, so that a handler stopped at it can still answer."""

    async def main():
        desk = Desk(rig)
        start = desk.clock.now()
        outcome = await desk.asks.ask(rig.event(1), 5.0)
        assert (outcome.status, outcome.code) == ("expired", "DEADLINE_EXCEEDED")
        assert 5.0 < desk.clock.now() - start < 5.2
        assert [cancel.event_id for cancel in desk.aborted] == ["client:1"]

    rig.run(main())


def test_an_asker_that_is_cancelled_takes_its_event_with_it(rig):
    """The cancellation goes on to the asker's caller; a late answer hurts nobody."""

    async def main():
        desk = Desk(rig, answer_s=2)
        task = asyncio.create_task(desk.asks.ask(rig.event(1), 5.0))
        await asyncio.sleep(1)
        assert desk.asks.waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (len(desk.aborted), desk.asks.waiting) == (1, 0)
        await asyncio.sleep(2)

    rig.run(main())
