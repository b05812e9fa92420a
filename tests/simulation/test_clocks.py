"""The wall clock of a simulated machine, and that nothing goes by it which should not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.simulation.clocks import WallClock
from tests.simulation.faults import Faults, Weather
from tests.simulation.loop import run
from tests.simulation.shape import Shape
from tests.simulation.world import simulate


def test_the_wall_clock_is_an_hour_off_now_and_then() -> None:
    """It jumps both ways, the monotonic clock never does, and after the storm it is right again."""

    async def main() -> set[int]:
        faults = Faults(1, Weather(wall_jumps=True))
        loop = asyncio.get_running_loop()
        wall = WallClock(loop, faults)
        offsets = set()
        for _ in range(50):
            await asyncio.sleep(0.5)
            offsets.add(round(wall.now() - loop.time() - 1_800_000_000.0))
        faults.weather = replace(faults.weather, wall_jumps=False)
        assert round(wall.now() - loop.time()) == 1_800_000_000
        assert faults.fired["wall clock jumped"] > 10
        return offsets

    assert run(main()) == {0, 3600, -3600}


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_goes_by_the_wall_that_should_not(seed: int) -> None:
    """With jumps and without, a seed's run is the same to the byte: order, credit, timeouts and resumes do not look."""
    weather = Weather(crash_every_s=2.0)
    jumping, steady = (simulate(seed, replace(weather, wall_jumps=jumps), Shape(events=12)) for jumps in (True, False))
    assert jumping.violations == steady.violations == []
    assert jumping.fingerprint == steady.fingerprint
    assert jumping.faults["wall clock jumped"]
    assert not steady.faults["wall clock jumped"]
