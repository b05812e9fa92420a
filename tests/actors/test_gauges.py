"""Gauges of a pool add up those of its cells."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from laneway.actors.pool import Pool, PoolSpec


def test_a_pool_tells_the_sums_of_its_cells(rig):
    """As values: what was read does not change afterwards."""

    async def handler(env, ctx):
        return None

    async def main():
        pool = Pool(
            PoolSpec("p", ["WORK"], handler, cells=2, concurrency=3),
            clock=rig.VirtualClock(None),
            make_context=rig.Context,
            on_done=rig.Answers(),
        )
        gauges = pool.statistics()
        assert (gauges.waiting, gauges.running, gauges.slots, len(gauges.cells)) == (0, 0, 6, 2)
        with pytest.raises(FrozenInstanceError):
            gauges.cells[0].running = 1

    rig.run(main())
