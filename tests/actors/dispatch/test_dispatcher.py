"""Every accepted event ends exactly once and whoever waits is told, whatever happens on the way."""

from __future__ import annotations

import asyncio

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.pools.cell import Cell
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.gauges import CellStatistics
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Out, Outcome
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.errors import ConfigError, LocalProtocolError, StoreError
from laneway.routing.lanes import Lane


class Panic(BaseException):
    """What native code raises past `except Exception`."""


class Outlet:
    """Keeps what handlers emit."""

    def __init__(self):
        self.kinds = []

    async def emit(self, env):
        self.kinds.append(env[2])

    async def emit_all(self, envs):
        self.kinds.extend(env[2] for env in envs)


class Journal:
    """Takes 5 ms a call, as a group commit does; can be told to fail or to hang."""

    def __init__(self):
        self.calls, self.error, self.delay_s = [], None, 0.005

    async def starting(self, envs):
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        self.calls.append([env[1] for env in envs])


class Engine:
    """A dispatcher in virtual time."""

    def __init__(self, rig, *specs, journal=None):
        self.rig = rig
        kinds = KindTable(
            [
                Kind("WORK", Lane.NORMAL, direction=IN),
                Kind("URGENT", Lane.CRITICAL, direction=IN),
                Kind("IDLE", Lane.LOW, direction=IN, durable=False),
            ]
        )
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.outlet, self.answers, self.probe = Outlet(), rig.Answers(), rig.Probe()
        ids = iter(range(1, 1000))
        around = Surroundings(self.outlet, self.clock, kinds, lambda: f"call-{next(ids)}")
        self.core = DispatchCore(kinds, DispatchPolicy())
        self.dispatcher = Dispatcher(self.core, around, journal=journal, probe=self.probe)
        for spec in specs:
            self.dispatcher.add_pool(spec)

    def event(self, counter, **fields):
        fields.setdefault("accepted", self.clock.now())
        return self.rig.event(counter, **fields)

    def offer(self, *counters, **fields):
        return self.dispatcher.offer_batch([self.event(counter, **fields) for counter in counters], self.answers.all)

    def books(self):
        """The books, which must balance, and agree with what the decisions hold."""
        s = self.dispatcher.statistics()
        assert self.core.statistics().pending == s.pending + s.reserved
        assert s.accepted == s.handled + s.expired + s.dropped + s.cancelled + s.failed + s.dead + s.pending
        return s

    async def __aenter__(self):
        await self.dispatcher.start()
        return self

    async def __aexit__(self, *exc):
        await self.dispatcher.close()


async def sleepy(env, ctx):
    await asyncio.sleep(10)


async def prompt(env, ctx):
    return b"done %d" % env[1]


def _spec(handler, name="p", kinds=("WORK", "URGENT", "IDLE"), **fields):
    fields.setdefault("concurrency", 2)
    return PoolSpec(name, list(kinds), handler, **fields)


def test_offered_events_are_handled_and_answered(rig):
    """Each event gets its outcome, with the handler's value; what waited before the start is handled too."""

    async def main():
        engine = Engine(rig, _spec(prompt))
        assert engine.offer(1) == [None]
        async with engine:
            assert engine.offer(*range(2, 60)) == [None] * 58
            await asyncio.sleep(1)
            assert engine.answers[59].value == b"done 59"
            assert set(engine.answers.status().values()) == {"handled"}
            books = engine.books()
            assert (books.accepted, books.handled, books.pending) == (59, 59, 0)

    rig.run(main())


def test_an_unknown_kind_is_refused_and_not_accepted(rig):
    """The refusal is an answer, not an exception, and is counted apart."""

    async def main():
        async with Engine(rig, _spec(prompt, kinds=["WORK"])) as engine:
            (error,) = engine.offer(1, kind="URGENT", lane=Lane.CRITICAL)
            assert error.reason == "UNKNOWN_KIND"
            outcome = await engine.dispatcher.ask(engine.event(2, kind="URGENT"), 1.0)
            assert (outcome.status, outcome.code) == ("failed", "MALFORMED")
            assert (engine.books().accepted, engine.books().refused) == (0, 2)

    rig.run(main())


def test_admit_then_enqueue_or_release(rig):
    """An admitted event may wait (for a commit) before it is queued, or be given back."""

    async def main():
        async with Engine(rig, _spec(prompt)) as engine:
            (first,) = engine.dispatcher.admit_batch([engine.event(1)])
            again, second = engine.dispatcher.admit_batch([engine.event(1), engine.event(2)])
            assert isinstance(again, LocalProtocolError)  # the id is in use
            engine.dispatcher.enqueue_batch([first], engine.answers.all)
            engine.dispatcher.release(second)
            with pytest.raises(LocalProtocolError, match="admit"):
                engine.dispatcher.enqueue_batch([engine.event(2)])
            await asyncio.sleep(1)
            assert engine.answers.status() == {1: "handled"}
            assert engine.books().accepted == 1

    rig.run(main())


def test_two_pools_may_not_share_a_name(rig):
    """The message says to choose another."""

    async def main():
        engine = Engine(rig, _spec(prompt))
        with pytest.raises(ConfigError, match="exists already"):
            engine.dispatcher.add_pool(_spec(prompt))

    rig.run(main())


def test_a_pool_can_be_added_while_running(rig):
    """It serves at once."""

    async def main():
        async with Engine(rig) as engine:
            engine.dispatcher.add_pool(_spec(prompt))
            outcome = await engine.dispatcher.ask(engine.event(1), 5.0)
            assert outcome.value == b"done 1"

    rig.run(main())


def test_a_keyed_pool_keeps_a_session_in_one_cell(rig):
    """Events of one session meet one cell; sessions spread over the cells."""

    async def main():
        async with Engine(rig, _spec(sleepy, cells=4, keyed="session", concurrency=20)) as engine:
            for number in range(32):
                engine.offer(number + 1, session=f"s{number % 8}")
            await asyncio.sleep(1)
            loads = [cell.running for cell in engine.books().pools[0].cells]
            assert sum(loads) == 32
            assert all(load % 4 == 0 for load in loads)
            assert sum(load > 0 for load in loads) > 1

    rig.run(main())


def test_a_critical_event_does_not_wait_for_slow_handlers_nor_the_journal(rig):
    """With all slots taken and the journal hanging it is handled at once."""

    async def main():
        journal = Journal()

        async def handler(env, ctx):
            if env[2] != "URGENT":
                await asyncio.sleep(10)

        async with Engine(rig, _spec(handler), journal=journal) as engine:
            engine.offer(1, 2, 3, 4)
            await asyncio.sleep(1)
            journal.delay_s = 5
            engine.offer(*range(5, 9))
            await asyncio.sleep(0.01)
            engine.offer(9, 10, 11, kind="URGENT", lane=Lane.CRITICAL)
            await asyncio.sleep(0.01)
            assert engine.answers.status() == {9: "handled", 10: "handled", 11: "handled"}
            assert not {9, 10, 11} & {counter for call in journal.calls for counter in call}

    rig.run(main())


def test_the_journal_is_told_before_the_handler(rig):
    """A delivery is recorded first, so that a crash in it counts."""

    async def main():
        journal, started = Journal(), []

        async def handler(env, ctx):
            started.append((env[1], any(env[1] in call for call in journal.calls)))

        async with Engine(rig, _spec(handler), journal=journal) as engine:
            engine.offer(*range(1, 30))
            await asyncio.sleep(1)
            assert sorted(started) == [(counter, True) for counter in range(1, 30)]

    rig.run(main())


@pytest.mark.parametrize("trouble", ["error", "hang"])
def test_a_failing_journal_fails_the_events_and_not_the_pump(rig, trouble):
    """They are answered with the store's code; when the store is back, events are handled again."""

    async def main():
        journal = Journal()
        async with Engine(rig, _spec(prompt), journal=journal) as engine:
            journal.error = StoreError("disk full") if trouble == "error" else None
            journal.delay_s = 100 if trouble == "hang" else 0.005
            engine.offer(1)
            await asyncio.sleep(11)
            assert (engine.answers[1].status, engine.answers[1].code) == ("failed", "STORE_FAILED")
            journal.error, journal.delay_s = None, 0.005
            engine.offer(2)
            await asyncio.sleep(1)
            assert engine.answers[2].status == "handled"

    rig.run(main())


def test_cancel_reaches_queued_staged_running_and_reserved(rig):
    """A run's events end wherever they are; other runs go on."""

    async def main():
        journal = Journal()
        async with Engine(rig, _spec(sleepy), journal=journal) as engine:
            engine.offer(1, 2, run="r1")
            await asyncio.sleep(1)
            journal.delay_s = 1
            engine.offer(3, 4, run="r1")  # staged for a second
            engine.offer(5, run="r2")
            await asyncio.sleep(0.1)
            engine.offer(*range(6, 12), run="r1")  # no room: queued
            (reserved,) = engine.dispatcher.admit_batch([engine.event(12, run="r1")])
            hit = engine.dispatcher.cancel("t", "s", run="r1", reason="enough")
            assert hit == 10
            engine.dispatcher.enqueue_batch([reserved], engine.answers.all)
            await asyncio.sleep(15)
            assert {counter for counter, status in engine.answers.status().items() if status == "handled"} == {5}
            assert engine.answers[12].message == "enough"
            assert engine.books().pending == 0

    rig.run(main())


def test_a_cancel_of_all_runs_meets_what_is_admitted_and_spares_what_comes_and_what_has_no_run(rig):
    """It means what there is; a document edit is no run."""

    async def main():
        async with Engine(rig, _spec(sleepy)) as engine:
            engine.offer(1, run="r1")
            engine.offer(2)
            (reserved,) = engine.dispatcher.admit_batch([engine.event(3, run="r3")])
            await asyncio.sleep(1)
            assert engine.dispatcher.cancel("t", "s") == 1
            engine.dispatcher.enqueue_batch([reserved], engine.answers.all)
            engine.offer(4, run="r4")
            await asyncio.sleep(30)
            assert engine.answers.status() == {1: "cancelled", 2: "handled", 3: "cancelled", 4: "handled"}

    rig.run(main())


def test_a_cancel_may_arrive_before_its_run(rig):
    """For 60 s it meets the run, the event or the tool call it names, and afterwards no more."""

    async def main():
        async with Engine(rig, _spec(prompt, kinds=["WORK", "TOOL_CALL"])) as engine:
            assert engine.dispatcher.cancel("t", "s", run="r1", reason="early") == 0
            engine.dispatcher.cancel("t", "s", event_id="client:2")
            engine.dispatcher.cancel("t", "s", event_id="call-3")
            engine.offer(1, run="r1")
            engine.offer(2)
            engine.offer(3, kind="TOOL_CALL", entity="call-3", lane=Lane.HIGH)
            engine.offer(4, run="r1", session="other")
            await asyncio.sleep(1)
            assert engine.answers.status() == {1: "cancelled", 2: "cancelled", 3: "cancelled", 4: "handled"}
            assert engine.answers[1].message == "early"
            await asyncio.sleep(60)
            engine.offer(5, run="r1")
            await asyncio.sleep(1)
            assert engine.answers[5].status == "handled"
            assert engine.books().remembered_cancels == 0

    rig.run(main())


def test_control_events_are_carried_out_not_routed(rig):
    """INTERRUPT ends a run, CANCEL an event; both are handled at once."""

    async def main():
        async with Engine(rig, _spec(sleepy)) as engine:
            engine.offer(1, run="r1")
            engine.offer(2)
            await asyncio.sleep(1)
            engine.offer(3, kind="INTERRUPT", run="r1", lane=Lane.CRITICAL)
            engine.offer(4, kind="CANCEL", entity="client:2", lane=Lane.CRITICAL)
            await asyncio.sleep(1)
            assert engine.answers.status() == {1: "cancelled", 2: "cancelled", 3: "handled", 4: "handled"}
            assert engine.books().accepted == 4

    rig.run(main())


def test_deadlines_in_the_queue_and_in_the_handler(rig):
    """One that never began is expired, one that began is stopped, both DEADLINE_EXCEEDED."""

    async def main():
        async with Engine(rig, _spec(sleepy, concurrency=1)) as engine:
            engine.offer(1, deadline=engine.clock.now() + 3)
            engine.offer(2, 3, 4, 5, 6, deadline=engine.clock.now() + 2)
            await asyncio.sleep(5)
            assert engine.answers.status() == {1: "cancelled", **dict.fromkeys(range(2, 7), "expired")}
            assert {outcome.code for outcome in engine.answers.by_counter.values()} == {"DEADLINE_EXCEEDED"}
            assert (engine.books().expired, engine.books().cancelled) == (5, 1)

    rig.run(main())


def test_an_ask_returns_the_handlers_value(rig):
    """And takes as long as the handler does."""

    async def main():
        async with Engine(rig, _spec(prompt)) as engine:
            outcome = await engine.dispatcher.ask(engine.event(1), 5.0)
            assert (outcome.status, outcome.value) == ("handled", b"done 1")

    rig.run(main())


def test_an_ask_that_takes_too_long_is_answered_and_stops_its_handler(rig):
    """Queued or running, its event ends with it."""

    async def main():
        async with Engine(rig, _spec(sleepy, concurrency=1)) as engine:
            start = engine.clock.now()
            asks = [engine.dispatcher.ask(engine.event(counter), 2.0) for counter in (1, 2, 3, 4, 5)]
            outcomes = await asyncio.gather(*asks)
            assert {outcome.code for outcome in outcomes} == {"DEADLINE_EXCEEDED"}
            assert engine.clock.now() - start < 2.2
            await asyncio.sleep(1)
            assert engine.books().pending == engine.books().asks == 0

    rig.run(main())


def test_an_asker_that_is_cancelled_takes_its_event_with_it(rig):
    """Nobody waits for it any more."""

    async def main():
        async with Engine(rig, _spec(sleepy)) as engine:
            task = asyncio.create_task(engine.dispatcher.ask(engine.event(1), 60.0))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)
            assert (engine.books().pending, engine.books().cancelled, engine.books().asks) == (0, 1, 0)

    rig.run(main())


def test_a_failing_callback_hurts_nobody(rig):
    """It is counted; the event is in the books and the worker lives."""

    async def main():
        def bad(ended):
            raise ValueError("callback")

        async with Engine(rig, _spec(prompt)) as engine:
            engine.dispatcher.offer_batch([engine.event(1)], bad)
            await asyncio.sleep(1)
            assert engine.probe.counts["dispatch.callback_failed"] == 1
            assert (engine.books().handled, engine.books().pools[0].cells[0].crashes) == (1, 0)

    rig.run(main())


def test_a_failing_handler_is_counted_by_pool_and_code(rig):
    """So that an operator sees it without reading outcomes."""

    async def main():
        async def handler(env, ctx):
            raise KeyError("x")

        async with Engine(rig, _spec(handler)) as engine:
            engine.offer(1)
            await asyncio.sleep(1)
            assert engine.probe.counts["handler.failed"] == 1
            assert engine.answers[1].code == "HANDLER_FAILED"

    rig.run(main())


def test_a_tool_call_travels_through_the_dispatcher(rig):
    """A handler's call is an event of the tools pool, told to the session as AG-UI."""

    async def main():
        async def model(env, ctx):
            result = await ctx.call_tool("double", {"x": 2})
            return result.content.encode()

        async def tools(env, ctx):
            return msgpack.packb({"content": "4", "code": "", "retryable": False})

        specs = [_spec(model), _spec(tools, name="tools", kinds=["TOOL_CALL"])]
        async with Engine(rig, *specs) as engine:
            outcome = await engine.dispatcher.ask(engine.event(1, run="r1"), 5.0)
            assert outcome.value == b"4"
            assert engine.outlet.kinds == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"]
            assert engine.books().accepted == 2

    rig.run(main())


def test_cancelling_a_run_cancels_its_tool_calls(rig):
    """Wherever they are: the run's other events end with it."""

    async def main():
        stopped = []

        async def model(env, ctx):
            await ctx.call_tool("slow", {})

        async def tools(env, ctx):
            try:
                await asyncio.sleep(60)
            finally:
                stopped.append(ctx.cancelled)

        specs = [_spec(model), _spec(tools, name="tools", kinds=["TOOL_CALL"])]
        async with Engine(rig, *specs) as engine:
            engine.offer(1, run="r1")
            await asyncio.sleep(1)
            assert engine.dispatcher.cancel("t", "s", event_id="client:1") == 1  # the model's event alone
            await asyncio.sleep(1)
            assert stopped == [True]
            assert engine.books().cancelled == 2

    rig.run(main())


def test_drain_lets_accepted_work_end_and_refuses_new_work(rig):
    """Queued and running events and their tool calls get until the deadline."""

    async def main():
        async def model(env, ctx):
            await asyncio.sleep(1)
            return (await ctx.call_tool("double", {})).content.encode()

        async def tools(env, ctx):
            await asyncio.sleep(1)
            return b"4"

        specs = [_spec(model, concurrency=1), _spec(tools, name="tools", kinds=["TOOL_CALL"])]
        engine = Engine(rig, *specs)
        async with engine:
            engine.offer(1, 2, 3, run="r1")
            await asyncio.sleep(0.5)
            start = engine.clock.now()
            drain = asyncio.create_task(engine.dispatcher.drain(30))
            await asyncio.sleep(0.1)
            (error,) = engine.offer(4)
            assert (error.code, error.retry_after_ms) == ("DRAINING", 1000)
            assert (await engine.dispatcher.ask(engine.event(5), 1.0)).code == "DRAINING"
            await drain
            assert engine.clock.now() - start < 6
            assert [engine.answers[n].value for n in (1, 2, 3)] == [b"4"] * 3

    rig.run(main())


def test_drain_ends_at_its_deadline(rig):
    """What is queued or still runs then is DRAINED; every asker is answered."""

    async def main():
        engine = Engine(rig, _spec(sleepy, concurrency=1))
        async with engine:
            asker = asyncio.create_task(engine.dispatcher.ask(engine.event(100), 60))
            engine.offer(*range(1, 9))
            (reserved,) = engine.dispatcher.admit_batch([engine.event(9)])
            await asyncio.sleep(1)
            start = engine.clock.now()
            await engine.dispatcher.drain(3)
            assert engine.clock.now() - start < 3.1
            assert (await asker).code == "DRAINED"
            assert {outcome.code for outcome in engine.answers.by_counter.values()} == {"DRAINED"}
            assert len(engine.answers) == 8
            engine.dispatcher.enqueue_batch([reserved], engine.answers.all)
            assert engine.answers[9].code == "DRAINED"
            assert engine.books().pending == 0

    rig.run(main())


def test_two_who_drain_both_return_with_everything_answered(rig):
    """An operator's stop and a shutdown may meet: logs are closed after either."""

    async def main():
        async def stubborn(env, ctx):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(1)  # its last words

        engine = Engine(rig, _spec(stubborn, concurrency=1))
        async with engine:
            engine.offer(1)
            await asyncio.sleep(0.5)
            first = asyncio.create_task(engine.dispatcher.drain(0.1))
            await asyncio.sleep(0.5)
            assert engine.books().pending == 1
            await engine.dispatcher.drain(0.1)
            assert engine.books().pending == 0
            await first

    rig.run(main())


def test_close_before_start_answers_what_waits(rig):
    """Also what no pump has ever seen, and what waits for an event that never comes."""

    async def main():
        engine = Engine(rig, _spec(prompt))
        engine.offer(1)
        engine.offer(2, after="client:77")
        await engine.dispatcher.close()
        await engine.dispatcher.close()
        assert {outcome.code for outcome in engine.answers.by_counter.values()} == {"DRAINED"}
        assert len(engine.answers) == 2

    rig.run(main())


def test_after_is_respected_across_pools(rig):
    """An event that names another waits for its end, whichever pool that is in."""

    async def main():
        order = []

        async def slow(env, ctx):
            await asyncio.sleep(3)
            order.append(env[1])

        async def quick(env, ctx):
            order.append(env[1])

        specs = [_spec(slow, kinds=["WORK"]), _spec(quick, name="q", kinds=["IDLE"])]
        async with Engine(rig, *specs) as engine:
            engine.offer(1)
            engine.offer(2, kind="IDLE", lane=Lane.LOW, after="client:1")
            engine.offer(3, kind="IDLE", lane=Lane.LOW, producer="another")
            await asyncio.sleep(10)
            assert order == [3, 1, 2]

    rig.run(main())


def test_an_event_whose_predecessor_never_comes_goes_on_after_a_while(rig):
    """Its order matters less than its handling."""

    async def main():
        async with Engine(rig, _spec(prompt)) as engine:
            engine.offer(1, after="client:77")
            await asyncio.sleep(4)
            assert len(engine.answers) == 0
            await asyncio.sleep(2)
            assert engine.answers.status() == {1: "handled"}

    rig.run(main())


@pytest.mark.parametrize("streams", [False, True])
def test_a_large_text_is_one_event(rig, streams):
    """It is put together for the handler, or given in parts; either way it ends once, in the books too."""

    async def main():
        bodies = []

        async def handler(env, ctx):
            bodies.append(env[11])

        spec = _spec(handler, kinds=["USER_MESSAGE"], concurrency=1, streams_input=streams)
        async with Engine(rig, spec) as engine:
            text = b"some words " * 10_000
            engine.offer(1, kind="USER_MESSAGE", lane=Lane.HIGH, run="r1", body=text)
            await asyncio.sleep(1)
            assert b"".join(bodies) == text
            assert (len(bodies) > 1) is streams
            assert engine.answers.status() == {1: "handled"}
            assert (engine.books().accepted, engine.books().handled) == (1, 1)

    rig.run(main())


def test_a_text_handled_in_parts_fails_if_one_part_does(rig):
    """The outcome is the first failure, told when the last part is over."""

    async def main():
        seen = []

        async def handler(env, ctx):
            seen.append(env[1])
            if len(seen) == 2:
                raise ValueError("second part")

        spec = _spec(handler, kinds=["USER_MESSAGE"], concurrency=1, streams_input=True)
        async with Engine(rig, spec) as engine:
            engine.offer(1, kind="USER_MESSAGE", lane=Lane.HIGH, run="r1", body=b"some words " * 10_000)
            await asyncio.sleep(1)
            assert len(seen) > 2
            assert engine.answers[1].message.endswith("second part")
            assert engine.books().failed == 1

    rig.run(main())


steps = st.lists(
    st.tuples(
        st.sampled_from(["offer"] * 5 + ["cancel", "cancel", "wait", "reserve"]),
        st.sampled_from(["WORK", "URGENT", "IDLE"]),
        st.sampled_from(["prompt", "slow", "fail", "deaf", "tool", "panic"]),
        st.sampled_from([0.3, 3.0, 50.0]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.booleans(), st.booleans(), st.sampled_from(["none", "session", "run"]))
def test_the_books_balance_whatever_happens(rig, script, journalled, patient, keyed):
    """Random failures, cancels, deadlines, panics and shutdowns: accepted is the sum of the endings."""

    async def handler(env, ctx):
        how = env[11].decode()
        if how == "slow":
            await asyncio.sleep(2)
        elif how == "fail":
            raise ValueError("bad")
        elif how == "panic":
            raise Panic("native")
        elif how == "tool":
            await ctx.call_tool("slow", {})
        elif how == "deaf":
            for _ in range(3):
                try:
                    await asyncio.sleep(3)
                except asyncio.CancelledError:
                    await ctx.emit(Out("LOG"))

    async def tools(env, ctx):
        await asyncio.sleep(1)
        return b"4"

    async def main():
        specs = [
            _spec(handler, keyed=keyed, cells=2, grace_s=1.0),
            _spec(tools, name="tools", kinds=["TOOL_CALL"]),
        ]
        journal = Journal() if journalled else None
        engine = Engine(rig, *specs, journal=journal)
        lanes = {"WORK": Lane.NORMAL, "URGENT": Lane.CRITICAL, "IDLE": Lane.LOW}
        offered = 0
        async with engine:
            for number, (what, kind, how, within_s, which) in enumerate(script, 1):
                env = engine.event(
                    number,
                    kind=kind,
                    lane=lanes[kind],
                    run=f"r{which}" if which else "",
                    session=f"s{which % 2}",
                    deadline=engine.clock.now() + within_s,
                    body=how.encode(),
                )
                if what == "offer":
                    offered += engine.dispatcher.offer_batch([env], engine.answers.all) == [None]
                elif what == "reserve":
                    (answer,) = engine.dispatcher.admit_batch([env])
                    await asyncio.sleep(0)
                    if isinstance(answer, tuple):
                        offered += 1
                        engine.dispatcher.enqueue_batch([answer], engine.answers.all)
                elif what == "cancel":
                    target = {"run": f"r{which}"} if which else {"event_id": f"client:{number - 1}"}
                    engine.dispatcher.cancel("t", f"s{which % 2}", **target)
                else:
                    await asyncio.sleep(within_s / 10)
                engine.books()
            await engine.dispatcher.drain(100 if patient else 0)
            books = engine.books()
            assert books.pending == books.asks == 0
            assert len(engine.answers) == offered
            assert books.accepted >= offered
            await asyncio.sleep(20)
            assert engine.books().pools[0].abandoned == 0

    rig.run(main())


def test_every_ending_is_timed_in_its_lane(rig):
    """From acceptance to the end: handled, failed, expired and cancelled events alike."""

    async def main():
        async def handler(env, ctx):
            await asyncio.sleep(2)
            if env[1] == 2:
                raise ValueError("no")

        async with Engine(rig, _spec(handler, concurrency=4)) as engine:
            now = engine.clock.now()
            engine.offer(1, 2)
            engine.offer(3, lane=Lane.LOW, deadline=now + 1)
            engine.offer(4, run="r")
            await asyncio.sleep(0.5)
            engine.dispatcher.cancel("t", "s", run="r")
            await asyncio.sleep(5)
            books = engine.books()
            assert (books.accepted_by_lane, books.accepted) == ((0, 0, 3, 1), 4)
            took = [(labels["lane"], round(s, 1)) for name, labels, s in engine.probe.measured if name == "event.time"]
            assert sorted(took) == [("low", 1.1), ("normal", 0.5), ("normal", 2.0), ("normal", 2.0)]

    rig.run(main())


def test_refusals_of_asks_are_counted_by_code(rig):
    """A tool call that the dispatcher turns away is seen, like a client's event at the session's door."""

    async def main():
        async with Engine(rig, _spec(prompt, kinds=["WORK"])) as engine:
            await engine.dispatcher.ask(engine.event(2, kind="URGENT"), 1.0)
            assert ("event.refused", {"code": "MALFORMED"}) in engine.probe.labels

    rig.run(main())


def _guest(engine, name, handler):
    """A cell from elsewhere, for the remote pool of this engine."""
    pool = engine.pool
    cell = Cell(name, handler, concurrency=2, clock=engine.clock, make_context=engine.rig.Context, on_done=pool.answer)
    pool.join(cell)
    return cell


def test_events_wait_for_cells_that_are_yet_to_come(rig):
    """Without a cell nothing is lost: deadlines end events, cancels find them, and a cell that comes gets the rest."""

    async def main():
        engine = Engine(rig)
        engine.pool = engine.dispatcher.add_pool(PoolSpec("p", ["WORK"], prompt, remote=True))
        await engine.dispatcher.start()
        engine.offer(1, deadline=engine.clock.now() + 2.0)
        engine.offer(2, run="r")
        engine.offer(3, deadline=engine.clock.now() + 50.0)
        await asyncio.sleep(3)
        assert engine.answers.status() == {1: "expired"}
        assert engine.dispatcher.cancel("t", "s", run="r") == 1
        gone = _guest(engine, "a", prompt)
        await asyncio.sleep(1)
        assert engine.answers.status() == {1: "expired", 2: "cancelled", 3: "handled"}
        engine.pool.leave("a")
        engine.offer(4)
        await engine.dispatcher.drain(1.0)
        assert engine.answers[4].code == "DRAINED"
        assert engine.books().pending == 0
        await gone.close(0.0)

    rig.run(main())


def test_a_cell_that_goes_while_the_start_is_journalled_gets_nothing(rig):
    """The event waits again, ahead of newer ones of its session, and goes to the next cell."""

    async def main():
        order = []

        async def note(env, ctx):
            order.append(env[1])

        engine = Engine(rig, journal=Journal())
        engine.pool = engine.dispatcher.add_pool(PoolSpec("p", ["WORK"], note, keyed="session", remote=True))
        await engine.dispatcher.start()
        gone = _guest(engine, "a", note)
        engine.offer(1, 2)
        await asyncio.sleep(0.001)
        engine.pool.leave("a")
        engine.offer(3)
        await asyncio.sleep(1)
        assert order == []
        _guest(engine, "b", note)
        await asyncio.sleep(1)
        assert order == [1, 2, 3]
        await engine.dispatcher.close()
        await gone.close(0.0)

    rig.run(main())


class Host:
    """A cell on a host that can be lost: it keeps what it is given."""

    def __init__(self, engine, name, room=8):
        self.engine, self.name, self.room, self.envs, self.open = engine, name, room, [], True
        engine.pool.join(self)

    @property
    def load(self):
        return len(self.envs)

    def free(self, critical=False):
        return 1 if critical else self.room - len(self.envs)

    def deliver(self, env):
        self.envs.append(env)

    def cancel(self, match, reason=""):
        return 0

    async def close(self, deadline):
        self.end()

    def statistics(self):
        return CellStatistics(self.name, (0,) * 4, len(self.envs), 0, 0, 0, 0, False)

    def end(self):
        envs, self.envs = self.envs, []
        for env in envs:
            self.engine.pool.answer(env, Outcome("handled"))

    def die(self):
        """Returns what it had."""
        envs, self.envs = self.envs, []
        self.engine.pool.leave(self.name)
        self.engine.pool.lost(envs)
        return [env[1] for env in envs]


def test_what_a_lost_host_had_goes_to_another(rig):
    """Before newer events of its session, with its start in the journal again; no run is repeated."""

    async def main():
        journal = Journal()
        engine = Engine(rig, journal=journal)
        spec = PoolSpec("p", ["WORK"], prompt, keyed="session", remote=True)
        engine.pool = engine.dispatcher.add_pool(spec)
        await engine.dispatcher.start()
        first = Host(engine, "a", room=2)
        engine.offer(1, 2, 3, 4)
        await asyncio.sleep(1)
        second = Host(engine, "b", room=3)
        assert first.die() == [1, 2]
        engine.books()
        assert engine.probe.counts["event.redelivered"] == 2
        await asyncio.sleep(1)
        assert [env[1] for env in second.envs] == [1, 2, 3]
        assert journal.calls == [[1, 2], [1, 2, 3]]
        second.end()
        await engine.dispatcher.drain(1.0)
        assert len(engine.answers) == 4
        assert engine.books().pending == 0

    rig.run(main())


def test_a_run_is_over_with_its_host(rig):
    """It is never repeated; whoever asked is told that a new run may be."""

    async def main():
        engine = Engine(rig)
        engine.pool = engine.dispatcher.add_pool(PoolSpec("p", ["WORK"], prompt, run_starting=True, remote=True))
        async with engine:
            first = Host(engine, "a")
            engine.offer(1)
            await asyncio.sleep(1)
            first.die()
            Host(engine, "b")
            await asyncio.sleep(1)
            outcome = engine.answers[1]
            assert (outcome.status, outcome.code, outcome.retryable) == ("dead", "HOST_LOST", True)
            assert engine.books().dead == 1

    rig.run(main())


def test_an_event_that_loses_three_hosts_is_given_up(rig):
    """Twice another host gets it, then it is dead; the one beside it that came later lives on."""

    async def main():
        engine = Engine(rig)
        engine.pool = engine.dispatcher.add_pool(PoolSpec("p", ["WORK"], prompt, remote=True))
        async with engine:
            engine.offer(1)
            for name in ("a", "b", "c"):
                host = Host(engine, name)
                await asyncio.sleep(1)
                if name == "c":
                    engine.offer(2)
                    await asyncio.sleep(1)
                host.die()
                engine.books()
            assert engine.answers.status() == {1: "dead"}
            assert engine.answers[1].code == "DEAD_LETTERED"
            last = Host(engine, "d")
            await asyncio.sleep(1)
            last.end()
            await asyncio.sleep(0)
            assert engine.answers.status() == {1: "dead", 2: "handled"}

    rig.run(main())


def test_a_cancel_finds_what_waits_for_another_host(rig):
    """An event whose host was lost is in the queues like any other."""

    async def main():
        engine = Engine(rig)
        engine.pool = engine.dispatcher.add_pool(PoolSpec("p", ["WORK", "URGENT"], prompt, remote=True))
        async with engine:
            host = Host(engine, "a")
            engine.offer(1, run="r")
            engine.offer(2, kind="URGENT", run="q", lane=Lane.CRITICAL)
            await asyncio.sleep(1)
            host.die()
            assert engine.dispatcher.cancel("t", "s", run="r") == 1
            assert engine.answers.status() == {1: "cancelled"}
            last = Host(engine, "b")
            engine.pool.changed()
            await asyncio.sleep(1)
            last.end()
            await asyncio.sleep(0)
            assert engine.answers.status() == {1: "cancelled", 2: "handled"}

    rig.run(main())
