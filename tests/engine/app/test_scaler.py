"""The scaler: a controller's decisions, carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from laneway import Engine
from laneway.engine.app.scaler import Scaler, load_of, merged
from laneway.routing.errors import RuntimeUnavailable
from laneway.routing.scaling import PoolLoad, ScalingPolicy
from tests.simulation.loop import run

QUICK = ScalingPolicy(up_after_s=2, up_pause_s=3, down_after_s=20, down_pause_s=5)
BUSY = PoolLoad(waiting=9, oldest_wait_s=1.0, busy=8, slots=8, wanted=1, ready=1)
IDLE = PoolLoad(waiting=0, oldest_wait_s=0.0, busy=0, slots=8, wanted=1, ready=1)


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Counts:
    """A probe that remembers names."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        self.names.append((name, labels["pool"]))


class Cluster:
    """Pools whose hosts come after `start_s`, and whose work is set by a test."""

    def __init__(self, *pools: str, start_s: float = 1.0) -> None:
        self.hosts = dict.fromkeys(pools, 1)
        self.work = dict.fromkeys(pools, IDLE)
        self.start_s = start_s
        self.calls: list[tuple[str, int]] = []
        self.under_way = 0
        self.asked = asyncio.Event()
        self.failing: Exception | None = None

    async def read(self) -> Mapping[str, PoolLoad]:
        if isinstance(self.failing, ValueError):
            raise self.failing
        return {
            pool: load._replace(wanted=self.hosts[pool], ready=self.hosts[pool], slots=8 * self.hosts[pool],
                                busy=8 * self.hosts[pool] if load.busy else 0)
            for pool, load in self.work.items()
        }  # fmt: skip

    async def scale(self, pool: str, hosts: int) -> list[str]:
        assert not self.under_way
        self.under_way += 1
        self.calls.append((pool, hosts))
        self.asked.set()
        try:
            await asyncio.sleep(self.start_s)
            if self.failing is not None:
                raise self.failing
            self.hosts[pool] = hosts
        finally:
            self.under_way -= 1
        return []


def made(cluster: Cluster, probe: Any = None, most: int = 4) -> Scaler:
    return Scaler(
        dict.fromkeys(cluster.hosts, (1, most)),
        read=cluster.read,
        scale=cluster.scale,
        clock=LoopClock(),
        probe=probe or Counts(),
        policy=QUICK,
    )


def test_a_pool_is_scaled_up_and_down_and_each_step_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """With its reason in the log, one step after another, within the bounds."""

    async def main() -> None:
        cluster, counts = Cluster("nlp"), Counts()
        scaler = made(cluster, counts)
        scaler.start()
        cluster.work["nlp"] = BUSY
        await asyncio.sleep(30)
        assert cluster.calls == [("nlp", 2), ("nlp", 4)]
        assert scaler.loads["nlp"].ready == 4
        cluster.work["nlp"] = IDLE
        await asyncio.sleep(60)
        assert cluster.calls[2:] == [("nlp", 3), ("nlp", 2), ("nlp", 1)]
        assert counts.names == [("pool.scaled", "nlp")] * 5
        await scaler.close()
        await scaler.close()

    with caplog.at_level(logging.INFO):
        run(main())
    assert "pool nlp: 1 -> 2 hosts: events wait 1.00 s, more than 0.2 s, for 2 s" in caplog.text
    assert "pool nlp: 4 -> 3 hosts: at most" in caplog.text


def test_one_change_at_a_time_over_all_pools() -> None:
    """Both are pressed; the second waits until the first is done (the cluster asserts it)."""

    async def main() -> None:
        cluster = Cluster("nlp", "tools", start_s=5.0)
        scaler = made(cluster)
        scaler.start()
        cluster.work = dict.fromkeys(cluster.work, BUSY)
        await asyncio.sleep(20)
        assert {pool for pool, _ in cluster.calls} == {"nlp", "tools"}
        await scaler.close()

    run(main())


def test_a_change_under_way_comes_to_its_end() -> None:
    """Closing waits for it, so that no host is left drained; nothing new is begun."""

    async def main() -> None:
        cluster, counts = Cluster("nlp", start_s=5.0), Counts()
        scaler = made(cluster, counts)
        scaler.start()
        cluster.work["nlp"] = BUSY
        await cluster.asked.wait()
        await scaler.close()
        assert counts.names == [("pool.scaled", "nlp")]
        await asyncio.sleep(30)
        assert len(cluster.calls) == 1

    run(main())


def test_what_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A change that is refused or hangs, and a look that fails: the next one comes."""

    async def main() -> None:
        cluster, counts = Cluster("nlp"), Counts()
        scaler = made(cluster, counts)
        scaler.start()
        cluster.work["nlp"], cluster.failing = BUSY, RuntimeUnavailable("no room")
        await asyncio.sleep(8)
        assert counts.names == [("pool.scale_failed", "nlp")]
        cluster.failing = ValueError("broken")
        await asyncio.sleep(10)
        cluster.failing, cluster.start_s = None, 1e9
        await asyncio.sleep(150)
        assert ("pool.scale_failed", "nlp") in counts.names[1:]
        assert not cluster.under_way or cluster.calls[-1][1] == 2
        cluster.start_s = 1.0
        await asyncio.sleep(150)
        assert cluster.hosts["nlp"] > 1
        await scaler.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    for said in ("no room", "could not be read: broken", "TimeoutError"):
        assert said in caplog.text


def test_a_pool_with_fixed_hosts_is_left_alone() -> None:
    """Nor is one that nothing is known of."""

    async def main() -> None:
        cluster = Cluster("nlp", "tools")
        scaler = made(cluster, most=1)
        scaler.start()
        cluster.work["nlp"] = BUSY
        del cluster.work["tools"]
        await asyncio.sleep(30)
        assert cluster.calls == []
        await scaler.close()

    run(main())


def test_the_load_is_read_from_the_dispatchers_books() -> None:
    """What waits in front and in mailboxes, for how long, what runs, and how much could run."""

    async def main() -> None:
        async with asyncio.timeout(60), Engine() as engine:
            holding = asyncio.Event()

            async def hold(event: object, context: object) -> None:
                await holding.wait()

            engine.pool("slow", ["SLOW"], hold, concurrency=2)
            now = engine.clock.now()
            empty = load_of(engine.statistics()[0], "slow", now, wanted=1, ready=1)
            assert empty == PoolLoad(0, 0.0, 0, 2, 1, 1, 0)
            async with engine.session("s1") as session:
                for _ in range(12):
                    await session.send_event("SLOW", b"")

                def load(later_s: float) -> PoolLoad:
                    at = engine.clock.now() + later_s
                    return load_of(engine.statistics()[0], "slow", at, wanted=2, ready=1, pending=1)

                while load(0.0).waiting > 10:  # noqa: ASYNC110 - nobody announces what a cell has begun
                    await asyncio.sleep(0.001)
                seen = load(5.0)
                assert (seen.waiting, seen.busy, seen.slots, seen.pending) == (10, 2, 2, 1)
                assert 5.0 <= seen.oldest_wait_s <= 5.0 + engine.clock.now() - now
                holding.set()

    asyncio.run(main())


def test_loads_of_several_fronts_are_one() -> None:
    """On the same hosts: work adds up, slots do not; what is more than they can run waits there."""
    one = PoolLoad(waiting=2, oldest_wait_s=0.1, busy=5, slots=8, wanted=1, ready=1)
    other = PoolLoad(waiting=3, oldest_wait_s=0.4, busy=6, slots=8, wanted=1, ready=1)
    assert merged([one]) == one
    assert merged([one, other]) == PoolLoad(8, 0.4, 8, 8, 1, 1, 0)
