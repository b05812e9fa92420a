"""Gauges of a pool add up those of its cells."""

from __future__ import annotations

import pytest

from laneway.actors.pools.gauges import CellStatistics, PoolStatistics, fields_of
from laneway.actors.pools.pool import Pool, PoolSpec


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
        with pytest.raises(AttributeError):
            gauges.cells[0].running = 1

    rig.run(main())


def test_gauges_are_told_by_name() -> None:
    """With all that is in them, as JSON holds it."""
    cell = CellStatistics("p/0", (0, 1), 1, 1, 0, 0, 0, quarantined=False)
    told = fields_of({"pool": PoolStatistics("p", 1, 1, 0, 0, (cell,), 3)})
    assert told["pool"]["cells"] == [
        {
            "name": "p/0",
            "waiting": [0, 1],
            "running": 1,
            "workers": 1,
            "abandoned": 0,
            "abandoned_total": 0,
            "crashes": 0,
            "quarantined": False,
        }
    ]
    assert (told["pool"]["name"], told["pool"]["slots"]) == ("p", 3)
