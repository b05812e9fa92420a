"""A limit that passes cancels its call, and only that; all share one timer."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.tools.deadlines import Deadlines


async def _call(limits, at, how_s, told):
    """A call as the tools pool makes it."""
    limit = limits.set(at)
    try:
        await asyncio.sleep(how_s)
        told.append("done")
    except asyncio.CancelledError:
        if not limit.caused():
            told.append("cancelled")
            raise
        told.append("late")
    finally:
        limits.end(limit)


def test_a_limit_that_passes_ends_its_call_and_no_other(rig):
    """In their own time, whatever the order in which they were set; the task goes on afterwards."""

    async def main():
        clock = rig.VirtualClock(asyncio.get_running_loop())
        limits, told, started = Deadlines(clock), [], clock.now()
        tasks = []
        for after_s, how_s in [(9, 10), (1, 10), (5, 2), (3, 10)]:
            tasks.append(asyncio.create_task(_call(limits, started + after_s, how_s, told)))
        await asyncio.sleep(1.5)
        assert told == ["late"]
        await asyncio.sleep(1)
        assert told == ["late", "done"]
        await asyncio.sleep(1)
        assert told == ["late", "done", "late"]
        await asyncio.gather(*tasks)
        assert clock.now() - started == pytest.approx(9, abs=0.01)
        assert len(limits) == 0
        assert [task.cancelling() for task in tasks] == [0] * 4

    rig.run(main())


def test_a_cancel_from_elsewhere_stays_one(rig):
    """Also if the limit passes in the same moment."""

    async def main():
        clock = rig.VirtualClock(asyncio.get_running_loop())
        limits, told = Deadlines(clock), []
        first = asyncio.create_task(_call(limits, clock.now() + 5, 10, told))
        both = asyncio.create_task(_call(limits, clock.now() + 1, 10, told))
        asyncio.get_running_loop().call_later(1, both.cancel)
        await asyncio.sleep(2)
        first.cancel()
        assert await asyncio.gather(first, both, return_exceptions=True) != []
        assert told == ["cancelled", "cancelled"]
        assert (first.cancelled(), both.cancelled(), len(limits)) == (True, True, 0)

    rig.run(main())


def test_without_an_end_nothing_is_watched(rig):
    """Infinity is no limit, and many limits are one timer."""

    async def main():
        loop = asyncio.get_running_loop()
        clock = rig.VirtualClock(loop)
        limits, timers = Deadlines(clock), []
        call_later = loop.call_later
        loop.call_later = lambda *args, **more: timers.append(args) or call_later(*args, **more)
        limits.set(float("inf"))
        assert timers == []
        for after_s in range(10, 20):
            limits.end(limits.set(clock.now() + after_s))
        assert len(timers) == 1

    rig.run(main())
