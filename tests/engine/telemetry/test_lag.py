"""How late the event loop is."""

from __future__ import annotations

import asyncio

from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.lag import LagTicker
from tests.simulation.loop import VirtualClock, run


def test_a_loop_that_is_held_shows_its_lag() -> None:
    """Ten looks a second; one that comes late says by how much, and whoever acts on it is told each."""
    counters = Counters()
    told: list[float] = []

    async def main() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        behind = 0.0

        class Held:
            def now(self) -> float:
                return clock.now() + behind

        ticker = LagTicker(Held(), counters)
        ticker.tell = lambda lag_s, now: told.append(round(lag_s, 3))
        ticker.start()
        ticker.start()
        await asyncio.sleep(0.45)
        behind = 3.0
        await asyncio.sleep(0.1)
        await ticker.close()
        await ticker.close()
        await asyncio.sleep(5)

    run(main())
    row = counters.snapshot()["loop.lag"]
    assert row["count"] == 5
    assert round(row["sum"], 3) == 3.0
    assert told == [0.0, 0.0, 0.0, 0.0, 3.0]
