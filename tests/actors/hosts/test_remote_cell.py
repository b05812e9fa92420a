"""A remote cell counts its room here, watches what it sent, and gives a lost host's events up in order."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from laneway.actors.hosts.carriage import Desk
from laneway.actors.hosts.peers import DELIVER
from laneway.actors.hosts.remote_cell import RemoteCell
from laneway.actors.meters import by_lane
from laneway.actors.pools.pool import Pool, PoolSpec
from laneway.actors.ports import Outcome, Principal
from laneway.engine.app.packing import HostPacking
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane
from tests.actors.hosts.stage import Taker, host_kinds

HANDLED = Outcome("handled")


class Wire:
    """A peer that keeps what is sent."""

    name, incarnation = "h", "1"

    def __init__(self):
        self.sent, self.alive = [], True

    def send(self, message, *, urgent=False):
        self.sent.append((urgent, message))


class Bench:
    """One cell of pool "p" on host "h", with room for 2 and 1."""

    def __init__(self, rig, **fields):
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.answers, self.probe, self.wire, self.taker = rig.Answers(), rig.Probe(), Wire(), Taker()
        self.lost, self.sent, self.changes = [], [], 0
        self.principal = lambda env: Principal("alice", env[3])
        self.pool = Pool(
            PoolSpec("p", ["WORK"], lambda env, ctx: None, **{"remote": True, "grace_s": 1.0, **fields}),
            clock=self.clock,
            make_context=rig.Context,
            on_done=self.answers,
            on_change=self._changed,
            on_lost=lambda envs: self.lost.append([env[1] for env in envs]),
            on_sent=lambda env, cell: self.sent.append((env[1], cell)),
        )
        desk = Desk(
            self.taker,
            self.clock,
            HostPacking(host_kinds()),
            lambda env: self.principal(env),
            lambda tenant, session: [],
            None,
            lambda: 1,
            lambda work, name: asyncio.create_task(work, name=name),
        )
        number = itertools.count(1).__next__
        waited = by_lane(self.probe, "queue.wait")
        self.cell = RemoteCell("p/0", self.wire, self.pool, desk, number=number, waited=waited, probe=self.probe)
        self.cell.allow(2, 1)
        self.pool.join(self.cell)

    def _changed(self):
        self.changes += 1

    def done(self, number, outcome=HANDLED):
        self.cell.done(self.cell.carried[number], outcome)


def test_room_is_the_hosts_less_what_it_has(rig):
    """As in a mailbox: critical events beyond their reserve take ordinary room, never the other way round."""

    async def main():
        bench = Bench(rig)
        cell = bench.cell
        assert (cell.name, cell.open, cell.free(), cell.free(critical=True)) == ("p/0@h", True, 2, 1)
        for counter in (1, 2):
            cell.deliver(rig.event(counter, lane=Lane.CRITICAL))
        assert (cell.free(), cell.free(critical=True), cell.load) == (1, 0, 2)
        cell.deliver(rig.event(3))
        for lane in (Lane.CRITICAL, Lane.LOW):
            with pytest.raises(LocalProtocolError, match="no room"):
                cell.deliver(rig.event(4, lane=lane))
        assert [urgent for urgent, _ in bench.wire.sent] == [True, True, False]
        bench.done(1)
        assert (cell.free(), cell.free(critical=True)) == (1, 0)
        bench.done(2)
        assert (cell.free(), cell.free(critical=True)) == (1, 1)
        cell.allow(0, 0)
        assert (cell.open, cell.free(), cell.free(critical=True)) == (False, 0, 0)
        changes = bench.changes
        cell.allow(0, 0)
        assert bench.changes == changes
        cell.allow(1, 1)
        assert (cell.free(), bench.changes) == (0, changes + 1)

    rig.run(main())


def test_what_cannot_travel_is_over_here(rig):
    """It fails with the reason and takes no room."""

    async def main():
        bench = Bench(rig)

        def nobody(env):
            raise LookupError("nobody")

        bench.principal = nobody
        bench.cell.deliver(rig.event(1))
        assert (bench.answers[1].status, bench.answers[1].code) == ("failed", "HANDLER_FAILED")
        assert (bench.wire.sent, bench.cell.free()) == ([], 2)

    rig.run(main())


def test_what_is_too_large_for_a_message_fails_alone(rig):
    """It never left, so it takes no room and the next one goes."""

    async def main():
        bench = Bench(rig)
        keep = bench.wire.send

        def refuse(message, *, urgent=False):
            raise LocalProtocolError("too large")

        bench.wire.send = refuse
        bench.cell.deliver(rig.event(1))
        assert (bench.answers[1].status, bench.answers[1].code) == ("failed", LocalProtocolError.code)
        assert (bench.cell.free(), bench.cell.carried) == (2, {})
        bench.wire.send = keep
        bench.cell.deliver(rig.event(2))
        assert len(bench.wire.sent) == 1

    rig.run(main())


def test_waiting_is_measured_up_to_the_departure(rig):
    """And a sampled event's departure is told."""

    async def main():
        bench = Bench(rig)
        bench.cell.deliver(rig.event(1, accepted=bench.clock.now() - 3.0, trace="t"))
        assert bench.probe.measured == [("queue.wait", {"lane": "normal"}, 3.0)]
        assert bench.sent == [(1, "p/0@h")]

    rig.run(main())


def test_a_lost_cell_leaves_its_pool_and_gives_its_events_up_in_order(rig):
    """What needs another host first, then the answers of what does not; the rest waits for its session."""

    async def main():
        bench = Bench(rig)
        bench.cell.allow(9, 9)
        for counter in range(1, 6):
            bench.cell.deliver(rig.event(counter))
        bench.taker.shut()
        packed = HostPacking(host_kinds()).pack(rig.event(9, body=b"said", producer="engine/p"), 0.0)
        bench.cell.carried[2].emit([packed])
        bench.done(2)
        bench.cell.cancel(lambda env: env[1] == 4, "enough")
        bench.wire.alive = False
        bench.cell.deliver(rig.event(6))
        assert bench.lost == [[6]]
        bench.cell.lost()
        assert bench.lost == [[6], [1, 3, 5]]
        assert bench.answers.status() == {4: "cancelled"}
        assert (bench.pool.cells, bench.pool.load) == ([], 1)
        bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert bench.answers.status() == {2: "handled", 4: "cancelled"}
        assert (bench.pool.load, bench.cell.carried) == (0, {})

    rig.run(main())


def test_what_is_given_up_keeps_its_room_until_the_host_is_done(rig):
    """Then there is room again, and the pool hears of it; a lost host gives all of it back."""

    async def main():
        bench = Bench(rig)
        for counter in (1, 2):
            bench.cell.deliver(rig.event(counter))
        assert bench.cell.cancel(lambda env: True, "enough") == 2
        await asyncio.sleep(2.5)
        assert bench.answers.status() == {1: "cancelled", 2: "cancelled"}
        statistics = bench.cell.statistics()
        assert (statistics.running, statistics.abandoned, statistics.abandoned_total) == (0, 2, 2)
        assert bench.probe.counts["cell.abandoned"] == 2
        assert (bench.cell.free(), bench.cell.cancel(lambda env: True)) == (0, 0)
        changes = bench.changes
        bench.done(1)
        assert (bench.cell.free(), bench.changes) == (1, changes + 1)
        bench.cell.lost()
        assert (bench.cell.carried, bench.lost) == ({}, [])

    rig.run(main())


def test_one_timer_watches_all(rig):
    """Each event ends at its own time; without a deadline nothing is planned."""

    async def main():
        bench = Bench(rig)
        bench.cell.allow(9, 1)
        now = bench.clock.now()
        for counter, after_s in ((1, 5.0), (2, 1.0), (3, 3.0), (4, float("inf"))):
            bench.cell.deliver(rig.event(counter, deadline=now + after_s))
        seen = []
        for _ in range(8):
            await asyncio.sleep(1.0)
            seen.append(sorted(bench.answers.by_counter))
        assert seen == [[], [], [], [2], [2], [2, 3], [2, 3], [1, 2, 3]]
        await bench.cell.close(0.0)
        assert bench.answers[4].code == "DRAINED"

    rig.run(main())


def test_only_runs_carry_history(rig):
    """Packed; None means that none was asked for."""

    async def main():
        for starting, history in ((True, b"\x90"), (False, None)):
            bench = Bench(rig, run_starting=starting)
            bench.cell.deliver(rig.event(1))
            ((_, message),) = bench.wire.sent
            assert (message[0], message[1], message[2]) == (DELIVER, 1, "p/0")
            assert message[4:] == (["alice", "t", [], None], history)

    rig.run(main())
