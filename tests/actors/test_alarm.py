"""One timer serves many deadlines."""

from __future__ import annotations

import asyncio

from laneway.actors.alarm import Alarm


def _rung(rig, *offsets, cancel=False):
    """Set the alarm to each offset in turn; return when it rang."""

    async def main():
        clock = rig.VirtualClock(asyncio.get_running_loop())
        start, times = clock.now(), []
        alarm = Alarm(clock, lambda: times.append(clock.now() - start))
        for offset in offsets:
            alarm.set(start + offset)
        if cancel:
            alarm.cancel()
        await asyncio.sleep(100)
        return [round(time, 2) for time in times]

    return rig.run(main())


def test_it_rings_once_at_the_earliest_time(rig):
    """Later times are forgotten, an earlier one replaces the planned one."""
    assert _rung(rig, 5, 9) == [5]
    assert _rung(rig, 9, 5) == [5]


def test_never_is_never_and_the_past_is_at_once(rig):
    """Infinity sets no timer; a time that has passed rings on the next turn of the loop."""
    assert _rung(rig, float("inf")) == []
    assert _rung(rig, -5) == [0.0]


def test_cancel_forgets_the_time(rig):
    """Nothing rings afterwards."""
    assert _rung(rig, 5, cancel=True) == []
