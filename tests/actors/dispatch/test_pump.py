"""A pump takes no more than the pool has room for, and critical events pass it by."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from laneway.actors.dispatch.journeys import Journeys
from laneway.actors.dispatch.losses import Losses
from laneway.actors.dispatch.pump import Pump
from laneway.actors.endings import expired
from laneway.actors.pools.pool import Pool, PoolSpec
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane


class Journal:
    """Takes a second a call; raises what it is told to."""

    def __init__(self):
        self.calls, self.error = [], None

    async def starting(self, envs):
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        self.calls.append([env[1] for env in envs])


class Bench:
    """One pool with its core and pump."""

    def __init__(self, rig, handler, journal=None):
        self.rig = rig
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.answers, self.probe = rig.Answers(), rig.Probe()
        kinds = KindTable([Kind("WORK", Lane.NORMAL, direction=IN), Kind("URGENT", Lane.CRITICAL, direction=IN)])
        self.core = DispatchCore(kinds, DispatchPolicy())
        spec = PoolSpec("p", ["WORK", "URGENT"], handler, concurrency=1)
        self.pool = Pool(spec, clock=self.clock, make_context=rig.Context, on_done=self._one)
        self.core.add_pool(PoolRoute("p", ("WORK", "URGENT")))
        self.core.members("p", self.pool.cells)
        self.pump = Pump(
            self.pool,
            self.core,
            clock=self.clock,
            end=self._done,
            taken=lambda: self._done([(env, expired()) for env in self.core.expired()]),
            journeys=Journeys(None, self.clock),
            losses=Losses(set()),
            journal=journal,
            probe=self.probe,
        )

    def _one(self, env, outcome):
        self._done([(env, outcome)])

    def _done(self, ended):
        self.core.done([env for env, _ in ended])
        self.answers.all(ended)
        self.pump.wake()

    def offer(self, *counters, **fields):
        for counter in counters:
            env = self.rig.event(counter, accepted=self.clock.now(), **fields)
            assert self.core.offer([env], self.clock.now()) == [env]
        self.pump.wake()

    @asynccontextmanager
    async def running(self):
        self.pump.start()
        try:
            yield self
        finally:
            await self.pump.stop()
            await self.pool.drain(0.0)


async def sleepy(env, ctx):
    await asyncio.sleep(10)


def test_what_has_no_room_stays_in_the_queues(rig):
    """Of ten events one runs and one waits in the cell; the rest can still be reordered and refused."""

    async def main():
        async with Bench(rig, sleepy).running() as bench:
            bench.offer(*range(1, 11))
            await asyncio.sleep(1)
            assert (bench.pool.load, bench.core.backlog("p")) == (2, 8)
            await asyncio.sleep(200)
            assert len(bench.answers) == 10

    rig.run(main())


def test_a_rush_delivers_critical_events_only_and_at_once(rig):
    """It needs no turn of the pump, and leaves ordinary events to it."""

    async def main():
        bench = Bench(rig, sleepy)
        bench.offer(1, 2)
        bench.offer(3, kind="URGENT", lane=Lane.CRITICAL)
        bench.pump.rush()
        assert bench.pool.statistics().cells[0].waiting == (1, 0, 0, 0)
        await bench.pool.drain(0.0)

    rig.run(main())


def test_staged_events_can_be_cancelled(rig):
    """While the journal writes, a cancel finds them; they never reach the cell."""

    async def main():
        journal = Journal()
        async with Bench(rig, sleepy, journal).running() as bench:
            bench.offer(1, 2)
            await asyncio.sleep(0.5)
            assert bench.pump.staged == 2
            assert [env[1] for env in bench.pump.cancel(lambda env: env[1] == 1)] == [1]
            await asyncio.sleep(1)
            assert (journal.calls, bench.pool.load, bench.pump.staged) == ([[1, 2]], 1, 0)

    rig.run(main())


def test_a_turn_that_fails_ends_its_events_and_the_pump_goes_on(rig):
    """They are answered with the error; the next ones are carried."""

    async def main():
        journal = Journal()
        journal.error = ValueError("bug")
        async with Bench(rig, sleepy, journal).running() as bench:
            bench.offer(1)
            await asyncio.sleep(2)
            assert bench.answers.status() == {1: "failed"}
            assert bench.probe.counts["dispatch.pump_failed"] == 1
            journal.error = None
            bench.offer(2)
            await asyncio.sleep(20)
            assert bench.answers.status() == {1: "failed", 2: "handled"}

    rig.run(main())


def test_critical_events_keep_their_order_whichever_way_they_take(rig):
    """Some take ordinary room in the pump's turn, others the reserve: none passes one that came before it."""

    async def main():
        started = []

        async def handler(env, ctx):
            started.append(env[1])

        async with Bench(rig, handler).running() as bench:
            bench.offer(*range(1, 13), kind="URGENT", lane=Lane.CRITICAL)
            await asyncio.sleep(1)
            assert started == list(range(1, 13))

    rig.run(main())


def test_what_expires_while_a_pump_takes_does_not_make_it_take_twice(rig):
    """It is woken in the middle of its turn, and still takes no more than there is room for: nothing is lost."""

    async def main():
        async with Bench(rig, sleepy, Journal()).running() as bench:
            bench.offer(1, 2)
            await asyncio.sleep(0.1)
            bench.offer(3, deadline=bench.clock.now() + 0.5)
            bench.offer(*range(4, 12))
            await asyncio.sleep(300)
            assert len(bench.answers) == 11
            assert "dispatch.pump_failed" not in bench.probe.counts

    rig.run(main())


def test_a_delivery_that_fails_ends_what_was_to_be_delivered_after_it(rig):
    """Whatever a cell says in the middle of a list: each event of the list is answered."""

    async def main():
        bench = Bench(rig, sleepy)
        deliver = bench.pool.deliver

        def broken(*envs, cell=None):
            if envs[0][1] == 1:
                raise LocalProtocolError("the cell is full")
            deliver(*envs, cell=cell)

        bench.pool.deliver = broken
        async with bench.running():
            bench.offer(1, 2)
            await asyncio.sleep(1)
            assert len(bench.answers) == 2

    rig.run(main())
