"""A cell answers every event once, most urgent first, and outlives its handlers' misbehaviour."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.pools.cell import Cell
from laneway.actors.ports import Out
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane


class Panic(BaseException):
    """What native code raises past `except Exception`."""


class Bench:
    """A cell in virtual time with everything it did."""

    def __init__(self, rig, handler, **options):
        self.rig = rig
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.answers, self.probe, self.contexts = rig.Answers(), rig.Probe(), {}
        options.setdefault("concurrency", 2)
        self.cell = Cell(
            "c",
            handler,
            clock=self.clock,
            make_context=self._context,
            on_done=self.answers,
            probe=self.probe,
            **options,
        )

    def _context(self, env, trace):
        context = self.contexts[env[1]] = self.rig.Context(env, trace)
        return context

    def deliver(self, *counters, **fields):
        for counter in counters:
            self.cell.deliver(self.rig.event(counter, **fields))

    async def close(self, within_s=0.0):
        await self.cell.close(self.clock.now() + within_s)


async def sleepy(env, ctx):
    await asyncio.sleep(10)


async def deaf(env, ctx):
    for _ in range(10):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await ctx.emit(Out("STILL_HERE"))
    await ctx.emit(Out("AT_LAST"))


async def prompt(env, ctx):
    await ctx.emit(Out("DONE"))


def test_a_cell_with_slow_handlers_keeps_little_ready(rig):
    """What it holds cannot be overtaken by others' events any more; slots that are idle are filled at once."""

    async def main():
        bench = Bench(rig, sleepy)
        bench.deliver(1, 2, 3, 4)
        seen = [bench.cell.free()]
        await asyncio.sleep(15)  # two have taken 10 s, the next two are handled
        seen.append(bench.cell.free())
        bench.deliver(5)
        seen.append(bench.cell.free())
        await asyncio.sleep(10)
        seen.append(bench.cell.free())
        await asyncio.sleep(30)
        assert [*seen, bench.cell.free()] == [0, 1, 0, 2, 3]
        await bench.close()

    rig.run(main())


def test_concurrency_bounds_the_handlers_and_critical_has_its_own_slot(rig):
    """With every slot taken by slow handlers an interrupt starts at once, a second one waits."""

    async def main():
        bench = Bench(rig, sleepy)
        bench.deliver(1, 2, 3)
        await asyncio.sleep(1)
        assert sorted(bench.contexts) == [1, 2]
        bench.deliver(4, 5, lane=Lane.CRITICAL)
        await asyncio.sleep(1)
        assert sorted(bench.contexts) == [1, 2, 4]
        await bench.close(100)

    rig.run(main())


def test_free_counts_what_waits(rig):
    """Twice the concurrency may wait; a delivery beyond that is a bug of the caller."""

    async def main():
        bench = Bench(rig, sleepy)
        bench.deliver(1, 2)
        await asyncio.sleep(0.1)
        bench.deliver(3, 4, 5, 6)
        assert (bench.cell.free(), bench.cell.free(critical=True), bench.cell.load) == (0, 2, 6)
        with pytest.raises(LocalProtocolError):
            bench.deliver(7)
        await bench.close()
        assert len(bench.answers) == 6

    rig.run(main())


def test_a_burst_that_never_suspends_keeps_lane_order(rig):
    """Events are handled critical first, then by lane, and all are answered."""

    async def main():
        seen = []

        async def handler(env, ctx):
            seen.append(env[1])

        bench = Bench(rig, handler, concurrency=1)
        bench.deliver(1, lane=Lane.LOW)
        bench.deliver(2, lane=Lane.HIGH)
        bench.deliver(3, lane=Lane.CRITICAL)
        await asyncio.sleep(1)
        assert seen == [3, 2, 1]
        await bench.close()

    rig.run(main())


def test_cancel_of_queued_and_running_events(rig):
    """Both are counted and answered CANCELLED; the neighbours are handled."""

    async def main():
        bench = Bench(rig, sleepy)
        bench.deliver(1, 2, 3, 4)
        await asyncio.sleep(1)
        assert bench.cell.cancel(lambda env: env[1] in (2, 3), "enough") == 2
        assert bench.answers.status() == {3: "cancelled"}  # the running one is told, not waited for
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.answers[2].message == "enough"
        assert bench.contexts[2].cancelled
        await asyncio.sleep(30)
        assert bench.answers.status() == {1: "handled", 2: "cancelled", 3: "cancelled", 4: "handled"}
        assert bench.cell.cancel(lambda env: True) == 0
        await bench.close()

    rig.run(main())


def test_a_cancelled_handler_may_end_in_its_own_words(rig):
    """What it emits while it winds down still goes out; what it emits after its answer does not."""

    async def main():
        async def handler(env, ctx):
            try:
                await asyncio.sleep(10)
            finally:
                await ctx.emit(Out("LAST_WORDS"))

        bench = Bench(rig, handler)
        bench.deliver(1)
        await asyncio.sleep(1)
        bench.cell.cancel(lambda env: True)
        await asyncio.sleep(1)
        assert [out.kind for out in bench.contexts[1].outs] == ["LAST_WORDS"]
        await bench.contexts[1].emit(Out("TOO_LATE"))
        assert bench.contexts[1].late == 1
        await bench.close()

    rig.run(main())


def test_a_handler_can_cancel_itself_without_harm_to_the_next(rig):
    """The stray cancellation dies with its worker; the next event is handled."""

    async def main():
        bench = None

        async def handler(env, ctx):
            if env[1] == 1:
                bench.cell.cancel(lambda env: env[1] == 1)
            else:
                await asyncio.sleep(1)

        bench = Bench(rig, handler, concurrency=1)
        bench.deliver(1, 2)
        await asyncio.sleep(5)
        assert bench.answers.status() == {1: "cancelled", 2: "handled"}
        await bench.close()

    rig.run(main())


def test_a_deaf_handler_is_abandoned_and_its_slot_replaced(rig):
    """After the grace it is answered for, its late events are discarded, and work goes on."""

    async def main():
        async def handler(env, ctx):
            await (deaf if env[1] == 1 else prompt)(env, ctx)

        bench = Bench(rig, handler, concurrency=1, grace_s=5.0)
        bench.deliver(1)
        await asyncio.sleep(1)
        bench.cell.cancel(lambda env: True)
        bench.deliver(2)
        await asyncio.sleep(4.9)
        assert len(bench.answers) == 0
        await asyncio.sleep(0.2)
        assert bench.answers.status() == {1: "cancelled", 2: "handled"}
        assert (bench.cell.statistics().abandoned, bench.probe.counts["cell.abandoned"]) == (1, 1)
        await asyncio.sleep(200)
        assert bench.cell.statistics().abandoned == 0
        assert bench.contexts[1].late == 1
        await bench.close()

    rig.run(main())


def test_slots_of_abandoned_handlers_are_replaced_only_up_to_a_limit(rig):
    """Beyond it the cell takes nothing ordinary until one of them ends; then it works again."""

    async def main():
        told = []
        bench = Bench(rig, deaf, concurrency=1, grace_s=1.0, max_abandoned=1, on_change=lambda: told.append(1))
        for counter in (1, 2):
            bench.deliver(counter)
            await asyncio.sleep(1)
            bench.cell.cancel(lambda env: True)
            await asyncio.sleep(2)
        assert bench.cell.statistics().abandoned == 2
        assert bench.cell.free() == 0
        told.clear()
        await asyncio.sleep(200)
        assert told
        assert bench.cell.free() == 2
        await bench.close()

    rig.run(main())


def test_deadlines_before_and_inside_the_handler(rig):
    """One that waited too long is expired, one that runs too long is stopped, both DEADLINE_EXCEEDED."""

    async def main():
        bench = Bench(rig, sleepy, concurrency=1)
        now = bench.clock.now()
        bench.deliver(1, deadline=now + 3)
        bench.deliver(2, deadline=now + 2)
        await asyncio.sleep(4)
        assert bench.answers.status() == {1: "cancelled", 2: "expired"}
        assert {outcome.code for outcome in bench.answers.by_counter.values()} == {"DEADLINE_EXCEEDED"}
        assert not bench.contexts[1].cancelled  # nobody asked for it
        await bench.close()

    rig.run(main())


def test_a_cancel_from_inside_the_handler_does_not_kill_the_worker(rig):
    """A CancelledError that is not the worker's own is answered, and the worker goes on."""

    async def main():
        async def handler(env, ctx):
            if env[1] == 1:
                raise asyncio.CancelledError

        bench = Bench(rig, handler, concurrency=1)
        bench.deliver(1, 2)
        await asyncio.sleep(1)
        assert bench.answers.status() == {1: "cancelled", 2: "handled"}
        assert bench.cell.statistics().workers == 1
        await bench.close()

    rig.run(main())


def test_crashed_workers_are_replaced_then_the_cell_is_quarantined_for_a_minute(rig):
    """Five crashes are survived; the sixth in a minute answers what waits and refuses for a minute."""

    async def main():
        async def handler(env, ctx):
            if env[1] < 100:
                raise Panic("native code")

        told = []
        bench = Bench(rig, handler, concurrency=4, on_change=lambda: told.append(bench.cell.open))
        bench.deliver(*range(1, 9))
        await asyncio.sleep(1)
        statistics = bench.cell.statistics()
        assert statistics.quarantined
        assert statistics.crashes >= 6
        assert set(bench.answers.status().values()) == {"failed"}
        assert len(bench.answers) == 8
        assert bench.cell.free() == bench.cell.free(critical=True) == 0
        bench.deliver(50)  # was on its way already
        assert bench.answers[50].retryable
        await asyncio.sleep(60)
        assert told[-1]
        bench.deliver(100)
        await asyncio.sleep(1)
        assert bench.answers[100].status == "handled"
        await bench.close()

    rig.run(main())


def test_a_batch_cell_gives_lists_and_answers_each(rig):
    """Cancelling one event of a running batch answers it at once; the others are handled."""

    async def main():
        sizes = []

        async def handler(events, contexts):
            sizes.append(len(events))
            await asyncio.sleep(1)
            return [b"%d" % env[1] for env in events]

        bench = Bench(rig, handler, concurrency=2, batch=True)
        bench.deliver(1, 2, 3, 4)
        await asyncio.sleep(0.5)
        assert bench.cell.cancel(lambda env: env[1] == 2) == 1
        assert bench.answers.status() == {2: "cancelled"}
        await asyncio.sleep(1)
        assert sizes == [4]
        assert bench.answers[4].value == b"4"
        assert bench.answers.status() == {1: "handled", 2: "cancelled", 3: "handled", 4: "handled"}
        await bench.close()

    rig.run(main())


def test_close_answers_everything(rig):
    """What waits is DRAINED at once, what runs gets until the deadline, later deliveries are answered."""

    async def main():
        async def handler(env, ctx):
            await asyncio.sleep(env[1])

        bench = Bench(rig, handler, concurrency=2)
        bench.deliver(1, 9, 3)
        await asyncio.sleep(0)
        await bench.close(within_s=5)
        bench.deliver(4)
        assert bench.answers.status() == {1: "handled", 3: "cancelled", 4: "cancelled", 9: "cancelled"}
        assert {bench.answers[n].code for n in (3, 4, 9)} == {"DRAINED"}
        await bench.close()

    rig.run(main())


def test_a_loop_that_is_torn_down_still_gets_its_answers(rig):
    """When asyncio cancels the workers from outside, queued and running events are answered."""
    answers = rig.Answers()

    async def main():
        clock = rig.VirtualClock(asyncio.get_running_loop())
        cell = Cell("c", sleepy, concurrency=1, clock=clock, make_context=rig.Context, on_done=answers)
        for counter in (1, 2, 3):
            cell.deliver(rig.event(counter))
            await asyncio.sleep(0)

    asyncio.run(main())
    assert answers.status() == {1: "cancelled", 2: "cancelled", 3: "cancelled"}


actions = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "deliver", "cancel", "wait"]),
        st.integers(0, 3),
        st.sampled_from(["prompt", "slow", "fail", "deaf", "generator", "panic"]),
        st.sampled_from([0.5, 4.0, float("inf")]),
    ),
    max_size=50,
)


@settings(max_examples=60, deadline=None)
@given(actions, st.booleans(), st.integers(1, 3))
def test_whatever_handlers_do_every_event_is_answered_once(rig, script, batch, concurrency):
    """Random deliveries, cancels, deadlines, failures, panics and deaf handlers: the books balance."""

    async def behave(env, ctx):
        kind = env[2]
        if kind == "slow":
            await asyncio.sleep(2)
        elif kind == "fail":
            raise ValueError("bad")
        elif kind == "panic":
            raise Panic("native")
        elif kind == "deaf":
            await deaf(env, ctx)
        elif kind == "generator":
            return stream()
        return None

    async def stream():
        for _ in range(3):
            await asyncio.sleep(0.3)
            yield Out("A")

    async def behave_all(events, contexts):
        return [await behave(env, ctx) for env, ctx in zip(events, contexts, strict=True)]

    async def main():
        bench = Bench(rig, behave_all if batch else behave, concurrency=concurrency, batch=batch, grace_s=1.0)
        delivered = 0
        for what, lane, kind, within_s in script:
            if what == "deliver" and bench.cell.free(lane == Lane.CRITICAL) > 0:
                delivered += 1
                bench.deliver(delivered, lane=lane, kind=kind, deadline=bench.clock.now() + within_s)
            elif what == "cancel":
                bench.cell.cancel(lambda env, lane=lane: env[1] % 4 == lane)
            elif what == "wait":
                await asyncio.sleep(within_s if within_s < 9 else 0)
            assert len(bench.answers) + bench.cell.load >= delivered
        await bench.close(within_s=2)
        assert len(bench.answers) == delivered
        assert bench.cell.load == 0
        await asyncio.sleep(500)
        assert bench.cell.statistics().abandoned == 0

    rig.run(main())


@pytest.mark.parametrize("batch", [False, True])
def test_each_event_waits_from_its_acceptance_to_the_start_of_its_handler(rig, batch):
    """Measured per event and lane, also in a batch, when a worker takes it and not when it was delivered."""

    async def main():
        async def second(env, ctx):
            await asyncio.sleep(1)

        bench = Bench(rig, second, concurrency=1, batch=batch)
        start = bench.clock.now()
        bench.deliver(1, accepted=start - 5)
        await asyncio.sleep(0)
        bench.deliver(2, accepted=start)
        bench.deliver(3, accepted=start, lane=Lane.HIGH) if batch else None
        await asyncio.sleep(2.5)
        waits = [
            (labels["lane"], round(seconds, 3))
            for name, labels, seconds in bench.probe.measured
            if name == "queue.wait"
        ]
        assert sorted(waits) == sorted([("normal", 5.0), ("normal", 1.0), *([("high", 1.0)] if batch else [])])
        await bench.close()

    rig.run(main())


def test_where_handlers_wait_all_that_waits_is_begun_within_three_turns_of_the_loop(rig):
    """A hundred runs that begin at once start together: the last does not wait for a turn of each one before."""

    async def main():
        begun = []

        async def waits(env, ctx):
            begun.append(env[1])
            await asyncio.sleep(10)

        bench = Bench(rig, waits, concurrency=128)
        bench.deliver(*range(1, 101))
        for _ in range(3):
            await asyncio.sleep(0)
        assert begun == list(range(1, 101))
        await bench.close()

    rig.run(main())


def test_handlers_that_never_wait_wake_no_more_than_two_workers(rig):
    """A burst that one worker can empty costs no task for each event."""

    async def main():
        async def quick(env, ctx):
            return None

        bench = Bench(rig, quick, concurrency=64)
        for burst in range(5):
            bench.deliver(*range(100 * burst + 1, 100 * burst + 101))
            await asyncio.sleep(0.01)
        assert bench.cell.statistics().workers <= 2
        await bench.close()

    rig.run(main())


def test_one_handler_that_waits_long_does_not_wake_many_for_quick_ones(rig):
    """Who summoned decides: a handler that has long been waiting says nothing about those that come now."""

    async def main():
        async def by_number(env, ctx):
            if env[1] == 1:
                await asyncio.sleep(10)

        bench = Bench(rig, by_number, concurrency=64)
        bench.deliver(1)
        await asyncio.sleep(0.01)
        bench.deliver(*range(2, 102))
        await asyncio.sleep(0.01)
        assert bench.cell.statistics().workers <= 3
        await bench.close()

    rig.run(main())
