"""Cells of other hosts come with their announcement and go with their connection; nothing is lost with them."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from laneway.actors.hosts.peers import ANSWER, CANCEL, DELIVER, DONE, EMIT, EMITTED, HANDLED, ROOM
from laneway.actors.pools.pool import PoolSpec
from laneway.routing.envelope import envelope
from laneway.routing.errors import Fenced
from laneway.routing.lanes import Lane
from tests.actors.hosts.stage import Front, RunningHost, ScriptedHost
from tests.actors.recording import TRACE, KeptTracer


async def _here(env, ctx):
    return b"here"


def _spec(name="p", kinds=("WORK", "URGENT", "IDLE"), **fields):
    return PoolSpec(name, list(kinds), _here, **{"remote": True, **fields})


async def _busy(front):
    """A host that has one event, and no room for another."""
    host = ScriptedHost()
    front.connect(host)
    host.room(1)
    front.offer(1)
    await asyncio.sleep(0.1)
    return host


def test_an_event_is_handled_where_a_host_has_room(rig):
    """It takes who asks, how long it may take and its number with it; its outcome and value come back."""

    async def main():
        async with Front(rig, _spec()) as front:
            host = ScriptedHost()
            front.connect(host)
            front.offer(1, deadline=front.clock.now() + 3.0, body=b"do")
            await asyncio.sleep(0.1)
            assert host.came == []
            host.room(2)
            await asyncio.sleep(0.1)
            ((number, cell, packed, who, history),) = host.of(DELIVER)
            assert (number, cell, who, history) == (1, "p/0", ["alice", "t", ["a", "b"], 99.0], None)
            assert msgpack.unpackb(packed)[8] == 2900
            assert front.cells.hosts == ["h1"]
            assert front.dispatcher.pool("p").cells == ["p/0@h1"]
            host.done(1, value=b"yes")
            await asyncio.sleep(0.1)
            assert (front.answers[1].status, front.answers[1].value) == ("handled", b"yes")
            assert front.probe.counts["cell.joined"] == 1

    rig.run(main())


def test_the_limits_of_a_host_are_kept_and_may_change(rig):
    """What has no room waits here, where it can be reordered; critical events have a reserve of their own."""

    async def main():
        async with Front(rig, _spec()) as front:
            host = ScriptedHost()
            front.connect(host)
            host.room(2)
            front.offer(*range(1, 7))
            await asyncio.sleep(0.1)
            assert host.counters == [1, 2]
            front.offer(8, 9, kind="URGENT", lane=Lane.CRITICAL)
            await asyncio.sleep(0.1)
            assert host.counters == [1, 2, 8]
            host.done(1)
            await asyncio.sleep(0.1)
            assert host.counters == [1, 2, 8, 9]
            host.room(4)
            await asyncio.sleep(0.1)
            assert host.counters == [1, 2, 8, 9, 3, 4]
            host.room(0, 0)
            for number in list(host.delivered):
                if number != 1:
                    host.done(number)
            await asyncio.sleep(0.1)
            assert front.dispatcher.pool("p").cells == []
            assert len(host.counters) == 6
            host.room(4)
            await asyncio.sleep(0.1)
            assert host.counters[6:] == [5, 6]

    rig.run(main())


def test_runs_travel_with_what_was_said_before(rig):
    """Only they: the host answers without asking."""

    async def main():
        async with Front(rig, _spec(run_starting=True)) as front:
            host = await _busy(front)
            assert msgpack.unpackb(host.of(DELIVER)[0][4]) == [{"id": "m1", "role": "user", "content": "s"}]

    rig.run(main())


def test_what_a_handler_says_reaches_the_session_before_its_end(rig):
    """In order, under numbers of this front, acknowledged as it is taken; the answer waits for the last of it."""

    async def main():
        async with Front(rig, _spec()) as front:
            host = await _busy(front)
            first = host.emit(1, b"a", b"b")
            await asyncio.sleep(0.1)
            assert host.of(EMITTED) == [(1, first, "", "", False)]
            front.taker.shut()
            host.emit(1, b"c")
            host.emit(1, b"d")
            host.done(1)
            await asyncio.sleep(1)
            assert len(front.answers) == 0
            front.taker.let_go()
            await asyncio.sleep(0.1)
            assert front.answers.status() == {1: "handled"}
            assert front.taker.said() == [b"a", b"b", b"c", b"d"]
            assert len({env[1] for env in front.taker.envs}) == 4

    rig.run(main())


def test_ends_that_are_told_together_are_as_good_as_apart(rig):
    """Each with what was said last, which is taken first; one that is over is not missed."""

    async def main():
        async with Front(rig, _spec()) as front:
            host = ScriptedHost()
            front.connect(host)
            host.room(3)
            for counter in (1, 2, 3):
                front.offer(counter)
            await asyncio.sleep(0.1)
            front.taker.shut()
            said = host.packed(2, b"a", b"b")
            host.peer.send((HANDLED, 0, [[1, []], [2, said]]))
            await asyncio.sleep(0.1)
            assert front.answers.status() == {1: "handled"}
            front.taker.let_go()
            host.peer.send((HANDLED, 0, [[3, []]]))
            await asyncio.sleep(0.1)
            assert front.answers.status() == {1: "handled", 3: "handled", 2: "handled"}
            assert (front.taker.said(), host.of(EMITTED), host.errors) == ([b"a", b"b"], [], [])

    rig.run(main())


def test_a_session_that_takes_no_more_stops_the_handler(rig):
    """The host is told why; nothing is emitted any more and the event cannot count as handled."""

    async def main():
        async with Front(rig, _spec()) as front:
            host = await _busy(front)
            front.taker.error = Fenced("another home has it")
            host.emit(1, b"a")
            host.emit(1, b"b")
            await asyncio.sleep(0.1)
            assert host.of(EMITTED) == [(1, 0, "NOT_OWNER", "another home has it", Fenced.retryable)]
            front.taker.error = None
            host.emit(1, b"c")
            host.done(1)
            await asyncio.sleep(0.1)
            assert (front.answers[1].status, front.answers[1].code) == ("failed", "NOT_OWNER")
            assert front.taker.said() == []

    rig.run(main())


def test_a_lost_host_leaves_its_work_to_the_next(rig):
    """Events are delivered again, in order and before newer ones; what it had finished is answered once."""

    async def main():
        async with Front(rig, _spec(keyed="session")) as front:
            first, second = ScriptedHost(), ScriptedHost()
            peer = front.connect(first)
            first.room(4)
            front.offer(1, 2, 3)
            await asyncio.sleep(0.1)
            front.taker.shut()
            first.emit(2, b"said")
            first.done(2)
            first.emit(3, b"unsaid")
            await asyncio.sleep(0.1)
            peer.cut()
            front.offer(4)
            await asyncio.sleep(0.1)
            assert front.dispatcher.pool("p").cells == []
            front.taker.let_go()
            front.connect(second, "h2")
            second.room(8)
            await asyncio.sleep(0.1)
            assert second.counters == [1, 3, 4]
            assert front.answers.status() == {2: "handled"}
            assert front.taker.said() == [b"said"]
            for number in second.delivered:
                second.done(number)
            await asyncio.sleep(0.1)
            assert front.answers.status() == dict.fromkeys((1, 2, 3, 4), "handled")
            assert (front.probe.counts["cell.lost"], front.probe.counts["event.redelivered"]) == (1, 2)

    rig.run(main())


def test_a_run_ends_with_its_host_and_a_cancelled_event_with_its_cancel(rig):
    """Neither is delivered again."""

    async def main():
        async with Front(rig, _spec(kinds=["WORK"], run_starting=True), _spec("q", ["URGENT"])) as front:
            host, other = ScriptedHost(), ScriptedHost()
            peer = front.connect(host)
            host.room(4)
            host.room(4, 4, "q", "q/0")
            front.offer(1, run="r")
            front.offer(2, kind="URGENT", lane=Lane.CRITICAL, run="q")
            await asyncio.sleep(0.1)
            front.dispatcher.cancel("t", "s", run="q")
            await asyncio.sleep(0.1)
            assert [number for number, _ in host.of(CANCEL)] == [2]
            peer.cut()
            await asyncio.sleep(0.1)
            front.connect(other, "h2")
            other.room(4)
            other.room(4, 4, "q", "q/0")
            await asyncio.sleep(0.1)
            assert other.counters == []
            assert (front.answers[1].status, front.answers[1].code) == ("dead", "HOST_LOST")
            assert front.answers[2].status == "cancelled"

    rig.run(main())


def test_a_new_life_of_a_host_ends_the_old_one(rig):
    """Its number for a delivery means nothing any more, also before the old connection's end was told."""

    async def main():
        async with Front(rig, _spec()) as front:
            old, new = ScriptedHost(), ScriptedHost()
            stale = front.connect(old)
            old.room(4)
            front.offer(1, 2)
            await asyncio.sleep(0.1)
            front.cells.connected(front.connect(new, incarnation="2"))
            front.cells.handlers()[DONE](stale, (DONE, 1, "handled", b"", "", "", False))
            front.cells.handlers()[ROOM](stale, (ROOM, 0, "p", "p/0", 9, 9))
            assert len(front.answers) == 0
            new.room(4)
            await asyncio.sleep(0.1)
            assert new.counters == [1, 2]
            new.done(2)
            await asyncio.sleep(0.1)
            assert front.answers.status() == {2: "handled"}

    rig.run(main())


def test_a_handler_that_ignores_its_cancel_is_answered_for(rig):
    """After its grace and a margin; its room stays taken until the host is done with it."""

    async def main():
        async with Front(rig, _spec(grace_s=2.0)) as front:
            host = ScriptedHost()
            front.connect(host)
            host.room(1, 0)
            front.offer(1, run="r")
            await asyncio.sleep(0.1)
            assert front.dispatcher.cancel("t", "s", run="r") == 1
            await asyncio.sleep(2.9)
            assert len(front.answers) == 0
            await asyncio.sleep(0.2)
            assert front.answers[1].code == "CANCELLED"
            front.offer(2)
            host.emit(1, b"late")
            await asyncio.sleep(0.1)
            assert (host.counters, front.taker.said()) == ([1], [])
            assert front.dispatcher.pool("p").statistics().abandoned == 1
            host.done(1, "cancelled")
            await asyncio.sleep(0.1)
            assert host.counters == [1, 2]

    rig.run(main())


def test_a_host_that_is_late_is_not_waited_for(rig):
    """An event with a deadline ends soon after it and the grace, whatever the host does."""

    async def main():
        async with Front(rig, _spec(grace_s=1.0)) as front:
            host = ScriptedHost()
            front.connect(host)
            host.room(1)
            front.offer(1, deadline=front.clock.now() + 2.0)
            await asyncio.sleep(3.9)
            assert len(front.answers) == 0
            await asyncio.sleep(0.3)
            assert (front.answers[1].status, front.answers[1].code) == ("cancelled", "DEADLINE_EXCEEDED")

    rig.run(main())


def test_a_handler_may_ask(rig):
    """Its question is dispatched here, under a number of this front, and answered once."""

    async def main():
        async with Front(rig, _spec(kinds=["WORK"]), _spec("q", ["URGENT"], remote=False)) as front:
            host = await _busy(front)
            question = envelope("URGENT", producer="engine/p", counter=1, tenant="t", session="s", lane=Lane.CRITICAL)
            host.ask(5, 1, question)
            host.ask(6, 1, question)
            await asyncio.sleep(0.1)
            assert sorted(host.of(ANSWER)) == [(q, "handled", b"here", "", "", False) for q in (5, 6)]
            host.done(1)
            await asyncio.sleep(0.1)
            host.ask(7, 1, question)
            await asyncio.sleep(0.1)
            assert host.of(ANSWER)[2][:2] == (7, "cancelled")

    rig.run(main())


def test_questions_end_with_whoever_asked(rig):
    """The asked event is cancelled with the delivery, and with the connection."""

    async def main():
        ended = []

        async def slow(env, ctx):
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(env[6])

        spec = PoolSpec("q", ["URGENT"], slow)
        async with Front(rig, _spec(kinds=["WORK"]), spec) as front:
            host = ScriptedHost()
            peer = front.connect(host)
            host.room(2)
            front.offer(1, 2)
            await asyncio.sleep(0.1)
            for number in (1, 2):
                own = {"tenant": "t", "session": "s", "lane": Lane.CRITICAL, "entity": f"e{number}"}
                host.ask(number, number, envelope("URGENT", producer="engine/p", counter=number, **own))
            await asyncio.sleep(0.1)
            host.done(1)
            await asyncio.sleep(0.1)
            assert ended == ["e1"]
            peer.cut()
            await asyncio.sleep(0.1)
            assert ended == ["e1", "e2"]
            assert host.of(ANSWER) == []

    rig.run(main())


@pytest.mark.parametrize(
    "message",
    [
        (ROOM, 0, "p", 7, 1, 1),
        (ROOM, 0, "p", "p/0", "many", 1),
        (EMIT, 9, []),
        (DONE, 1, "dead", b"", "", "", False),
        (DONE, 1, "handled", None, "", "", False),
        (DONE, 0, "handled", b"", "", "", False),
        (EMIT, 1, [b"no event"]),
        (DONE, 1),
        (HANDLED, 0, [[0, []]]),
        (HANDLED, 0, [[1, [b"no event"]]]),
        (HANDLED, 0, 1),
    ],
    ids=repr,
)
def test_a_host_that_breaks_the_rules_loses_its_connection(rig, message):
    """And only that: what it had is delivered to another one."""

    async def main():
        async with Front(rig, _spec()) as front:
            host, other = ScriptedHost(), ScriptedHost()
            front.connect(host)
            host.room(1)
            front.offer(1)
            await asyncio.sleep(0.1)
            host.peer.send(message)
            await asyncio.sleep(0.1)
            assert [error.code for error in host.errors] == ["MALFORMED"]
            front.connect(other, "h2")
            other.room(1)
            await asyncio.sleep(0.1)
            assert other.counters == [1]

    rig.run(main())


def test_speaking_for_another_session_or_after_the_end_breaks_the_rules(rig):
    """A host says only what its deliveries may."""

    async def main():
        async with Front(rig, _spec()) as front:
            for name in ("elsewhere", "after"):
                host = ScriptedHost()
                front.connect(host, name)
                host.room(1)
                front.offer(len(front.answers) + 1)
                await asyncio.sleep(0.1)
                if name == "elsewhere":
                    host.emit(1, b"x", session="other")
                else:
                    front.taker.shut()
                    host.emit(1, b"a")
                    host.done(1)
                    host.emit(1, b"b")
                await asyncio.sleep(0.1)
                assert [error.code for error in host.errors] == ["MALFORMED"]
            front.taker.let_go()

    rig.run(main())


def test_a_pool_that_is_added_later_gets_the_cells_that_were_announced(rig):
    """A local pool of that name gets none."""

    async def main():
        async with Front(rig, _spec("q", ["URGENT"], remote=False)) as front:
            host = ScriptedHost()
            front.connect(host)
            host.room(1)
            host.room(1, 1, "q", "q/0")
            await asyncio.sleep(0.1)
            assert front.cells.hosts == []
            front.dispatcher.add_pool(_spec(kinds=["WORK"]))
            front.cells.welcome("p")
            assert front.dispatcher.pool("p").cells == ["p/0@h1"]
            assert front.dispatcher.pool("q").cells == ["q/0"]
            front.offer(1)
            await asyncio.sleep(0.1)
            assert host.counters == [1]

    rig.run(main())


def test_a_sampled_event_is_routed_here_and_handled_there(rig):
    """Its way ends here with the departure, below which the host goes on."""

    async def main():
        tracer = KeptTracer(rig.VirtualClock(asyncio.get_running_loop()))
        async with Front(rig, _spec(), tracer=tracer) as front:
            host = RunningHost(rig, _here)
            front.connect(host)
            await asyncio.sleep(0.1)
            front.offer(1, trace=TRACE)
            await asyncio.sleep(0.1)
            assert front.answers[1].value == b"here"
            assert [name for name, _ in tracer.told] == ["shape", "queue normal", "route p"]
            assert host.delivered[1][9] == TRACE
            await host.cell.close(0.0)

    rig.run(main())


def test_closing_leaves_nothing_behind(rig):
    """Deliveries, questions and what waits for a session end with the front."""

    async def main():
        front = Front(rig, _spec(kinds=["WORK"]), PoolSpec("q", ["URGENT"], lambda env, ctx: asyncio.sleep(99)))
        async with front:
            host = ScriptedHost()
            front.connect(host)
            host.room(4)
            front.offer(1, 2)
            await asyncio.sleep(0.1)
            front.taker.shut()
            host.emit(1, b"a")
            host.done(1)
            host.ask(1, 2, envelope("URGENT", producer="e", counter=1, tenant="t", session="s", lane=Lane.CRITICAL))
            await asyncio.sleep(0.1)
        assert {outcome.code for outcome in front.answers.by_counter.values()} == {"DRAINED"}
        assert len(front.answers) == 2

    rig.run(main())
