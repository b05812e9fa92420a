"""One timer serves many deadlines."""

from __future__ import annotations

import asyncio
import weakref

from laneway.actors.alarm import Alarm, nobody


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


def test_a_closed_alarm_rings_no_more_and_forgets_whom(rig):
    """Whoever held it by what it rings goes at once, and setting it again is silent."""

    async def main():
        times = []
        clock = rig.VirtualClock(asyncio.get_running_loop())

        class Owner:
            def ring(self):
                times.append(clock.now())

        owner = Owner()
        owner.alarm = Alarm(clock, owner.ring)
        alarm, gone = owner.alarm, weakref.ref(owner)
        alarm.set(5.0)
        alarm.close()
        alarm.set(7.0)
        del owner
        assert gone() is None
        await asyncio.sleep(100)
        assert times == []

    rig.run(main())


def test_nobody_takes_anything():
    """Whatever was called before is called like this, and nothing comes of it."""
    assert nobody() is None
    assert nobody("event", ("handled",), now=1.0) is None
