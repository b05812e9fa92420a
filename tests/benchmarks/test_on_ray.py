"""W1 to W4 on a real local Ray: both contenders account for every event, and a loss leaves no figure. No times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks import dispatch, on_ray, ray_actors, workload
from benchmarks.channels import Channel
from benchmarks.counts import Lost
from benchmarks.measure import Options, repeated_here
from benchmarks.paths import add_pools, linked
from laneway import Engine
from laneway.routing.lanes import LANE_NAMES

SMALL = Options(
    events=workload.IN_FLIGHT + 100,
    calls=64,
    streams=4,
    burst_tokens=20,
    paced_tokens=5,
    repeats=1,
    seconds=0.1,
    overload_repeats=1,
)


@pytest.mark.ray
def test_both_contenders_account_for_everything() -> None:
    """The same workloads for Ray's actors and for laneway, with one dispatcher and with two; hosts are counted."""
    rows = on_ray.run(SMALL, lambda text: None)
    both = {ray_actors.NAME, on_ray.LANEWAY}
    names = {workload: {row.row for row in rows if row.workload == workload} for workload in (on_ray.W1, on_ray.W2)}
    assert names == {on_ray.W1: {*both, on_ray.CALLS}, on_ray.W2: both}
    assert {row.row for row in rows if row.workload == on_ray.BURST} == both
    assert {row.row for row in rows if row.workload == on_ray.PACED} == both
    assert {row.row for row in rows if row.workload == on_ray.W1_APART} == both
    overloaded = [row for row in rows if row.workload == on_ray.W4]
    assert {row.row.partition(" @")[0] for row in overloaded} == {*both, on_ray.TWO_FRONTS, "asyncio.PriorityQueue"}
    for row in overloaded:
        settled = sum(row.extra[f"{lane}_done"] + row.extra[f"{lane}_refused"] for lane in LANE_NAMES)
        assert (settled, row.extra["critical_refused"]) == (row.extra["offered"], 0)
    for row in rows:
        if row.workload != on_ray.W4:
            assert (row.figure("hosts_cpu_us") is not None) == row.row.startswith("laneway")
            assert row.figure("Ray_cpu_us") is not None
    assert json.dumps([row.record() for row in rows], allow_nan=False)


def test_a_lost_event_leaves_no_figure() -> None:
    """One result that a session never gives: the row ends with how many came."""

    class _Losing:
        def __init__(self, channel: Channel) -> None:
            self.send = channel.send
            self._receive = channel.receive

        async def receive(self) -> list[bytes]:
            return [body for body in await self._receive() if workload.number_of(body) != 7]

    @asynccontextmanager
    async def losing(engine: Engine, names: str) -> AsyncIterator[Sequence[Channel]]:
        async with linked(engine, names) as channels:
            yield [_Losing(channel) for channel in channels]

    async def main() -> None:
        async with Engine(workload.open_config(), kinds=workload.KINDS) as engine:
            add_pools(engine)
            way = on_ray.events_of(engine, "losing", losing, 64)
            with pytest.raises(Lost, match="99 of 100 events came back"):
                await repeated_here("W1", way.row, dispatch.through(way, workload.jobs(1_000), 0.5), 1_000, 1)

    asyncio.run(main())
