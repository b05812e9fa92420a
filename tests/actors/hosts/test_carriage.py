"""One event on another host is answered once, whatever either side does."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.endings import drained, stopped_late
from laneway.actors.hosts.carriage import MARGIN_S, Carriage, Desk, answer_of
from laneway.actors.hosts.peers import ANSWER, CANCEL, EMITTED
from laneway.actors.ports import Outcome, Principal
from laneway.engine.app.packing import HostPacking
from laneway.routing.errors import PeerProtocolError, SlowConsumer
from laneway.routing.lanes import Lane
from tests.actors.hosts.stage import Taker, host_kinds

HANDLED = Outcome("handled", b"v")
STOPPED = Outcome("cancelled", code="CANCELLED", message="as the host words it")


class Wire:
    """A peer that keeps what is sent."""

    name, incarnation, alive = "h", "1", True

    def __init__(self):
        self.sent = []

    def send(self, message, *, urgent=False):
        self.sent.append((urgent, message))

    def of(self, verb):
        return [message[1:] for _, message in self.sent if message[0] == verb]


class Bench:
    """One carriage of event 1, with grace 2 s."""

    def __init__(self, rig, **fields):
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.packer, self.taker, self.wire = HostPacking(host_kinds()), Taker(), Wire()
        self.answers, self.watched, self.asked = [], [], []
        self.env = rig.event(1, **fields)
        numbers = iter(range(100, 200))
        desk = Desk(
            self.taker,
            self.clock,
            self.packer,
            lambda env: Principal(""),
            lambda tenant, session: [],
            self._ask,
            lambda: next(numbers),
            lambda work, name: asyncio.create_task(work, name=name),
        )
        self.carriage = Carriage(
            7,
            self.env,
            self.wire,
            desk,
            grace_s=2.0,
            over=lambda _, o: self.answers.append(o),
            watch=self.watched.append,
        )

    async def _ask(self, env, timeout_s):
        self.asked.append((env[1], timeout_s))
        await asyncio.sleep(1)
        return HANDLED

    def emit(self, rig, *bodies):
        own = [rig.event(5, body=body, producer="engine/p") for body in bodies]
        self.carriage.emit([self.packer.pack(env, 0.0) for env in own])


def test_the_answer_waits_for_the_last_word_and_no_longer(rig):
    """DONE after EMIT: handled once the session has taken it."""

    async def main():
        bench = Bench(rig)
        bench.taker.shut()
        bench.emit(rig, b"a")
        bench.carriage.finish(HANDLED)
        await asyncio.sleep(1)
        assert bench.answers == []
        bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert (bench.answers, bench.taker.said()) == ([HANDLED], [b"a"])
        assert (bench.carriage.answered, bench.carriage.gone) == (True, True)
        assert bench.wire.of(EMITTED) == [], "nobody waits for it"
        with pytest.raises(PeerProtocolError):
            bench.carriage.finish(HANDLED)

    rig.run(main())


def test_a_cancel_is_sent_once_and_the_host_has_its_grace(rig):
    """By the urgent stream; what the host then calls cancelled is told in the words of who asked."""

    async def main():
        bench = Bench(rig)
        bench.carriage.cancel("enough")
        bench.carriage.cancel("again")
        assert bench.wire.sent == [(True, (CANCEL, 7, "enough"))]
        assert bench.carriage.give_up_at == bench.clock.now() + 2.0 + MARGIN_S == bench.watched[-1]
        bench.emit(rig, b"last words")
        bench.carriage.finish(STOPPED)
        await asyncio.sleep(0.1)
        assert [(o.code, o.message) for o in bench.answers] == [("CANCELLED", "enough")]
        assert bench.taker.said() == [b"last words"]

    rig.run(main())


def test_what_ended_before_the_cancel_came_keeps_its_answer(rig):
    """The host knows best."""

    async def main():
        bench = Bench(rig)
        bench.carriage.cancel("enough")
        bench.carriage.finish(HANDLED)
        assert bench.answers == [HANDLED]

    rig.run(main())


def test_last_words_of_a_cancelled_handler_do_not_wait_for_ever(rig):
    """A client without credit has two seconds."""

    async def main():
        bench = Bench(rig)
        bench.taker.shut()
        bench.emit(rig, b"said")
        bench.carriage.cancel("enough")
        bench.carriage.finish(STOPPED)
        assert bench.watched[-1] == bench.clock.now() + 2.0
        bench.carriage.give_up(stopped_late())
        assert [o.message for o in bench.answers] == ["enough"]
        bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert bench.taker.said() == []

    rig.run(main())


def test_a_cancel_of_what_only_waits_for_a_reader_is_its_end(rig):
    """The handler is over; the host needs not be told."""

    async def main():
        bench = Bench(rig)
        bench.taker.shut()
        bench.emit(rig, b"said")
        bench.carriage.finish(HANDLED)
        bench.carriage.cancel("enough")
        assert [o.message for o in bench.answers] == ["enough"]
        assert bench.wire.sent == []
        await asyncio.sleep(0)

    rig.run(main())


def test_giving_up_says_why_it_was_to_end(rig):
    """The first cause counts; the host is told to stop, and what it still says is ignored."""

    async def main():
        for stop, code in ((True, "CANCELLED"), (False, "DRAINED")):
            bench = Bench(rig)
            if stop:
                bench.carriage.cancel("enough")
            bench.carriage.give_up(drained())
            bench.carriage.give_up(stopped_late())
            bench.emit(rig, b"late")
            bench.carriage.finish(HANDLED)
            await asyncio.sleep(0.1)
            assert [o.code for o in bench.answers] == [code]
            assert (bench.taker.said(), bench.wire.of(CANCEL)[-1][0]) == ([], 7)

    rig.run(main())


def test_a_lost_event_may_have_another_host_unless_it_is_all_but_over(rig):
    """Not what was finished, cancelled or refused by its session."""

    async def main():
        fresh, finished, stopped, refused = (Bench(rig) for _ in range(4))
        finished.taker.shut()
        finished.emit(rig, b"said")
        finished.carriage.finish(HANDLED)
        stopped.carriage.cancel("enough")
        refused.taker.error = PeerProtocolError("no")
        refused.emit(rig, b"said")
        await asyncio.sleep(0.1)
        benches = (fresh, finished, stopped, refused)
        assert [bench.carriage.lose() for bench in benches] == [True, False, False, False]
        finished.taker.let_go()
        for bench in (stopped, refused):
            bench.carriage.give_up(stopped_late())
        await asyncio.sleep(0.1)
        assert [[o.code or o.status for o in bench.answers] for bench in benches] == [
            [], ["handled"], ["CANCELLED"], ["MALFORMED"],
        ]  # fmt: skip

    rig.run(main())


def test_questions_are_bounded_and_end_with_the_delivery(rig):
    """64 at once; the next is refused, one asked twice breaks the rules, and none is answered after the end."""

    async def main():
        bench = Bench(rig)
        data = bench.packer.pack(rig.event(1, producer="engine/p"), 0.0)
        for question in range(64):
            bench.carriage.ask(question, data, 9.0)
        with pytest.raises(PeerProtocolError, match="twice"):
            bench.carriage.ask(3, data, 9.0)
        bench.carriage.ask(64, data, 9.0)
        assert [(row[0], row[1], row[3]) for row in bench.wire.of(ANSWER)] == [(64, "failed", "OVERLOADED")]
        await asyncio.sleep(0.5)
        assert len({number for number, _ in bench.asked}) == 64
        bench.carriage.finish(HANDLED)
        await asyncio.sleep(2)
        bench.carriage.ask(65, data, 9.0)
        assert [row[:2] for row in bench.wire.of(ANSWER)[1:]] == [(65, "cancelled")]

    rig.run(main())


def test_a_question_waits_for_what_was_said_before_it(rig):
    """The session hears of a tool call before the tool begins; if it takes no more, or too late, none begins."""

    async def main():
        bench = Bench(rig)
        data = bench.packer.pack(rig.event(1, producer="engine/p"), 0.0)
        bench.taker.shut()
        bench.emit(rig, b"call")
        bench.carriage.ask(1, data, 9.0)
        bench.carriage.ask(2, data, 0.5)
        await asyncio.sleep(1)
        assert bench.asked == []
        assert [(row[0], row[1]) for row in bench.wire.of(ANSWER)] == [(2, "expired")]
        bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert bench.taker.said() == [b"call"]
        assert [round(timeout_s, 3) for _, timeout_s in bench.asked] == [8.0]
        await asyncio.sleep(2)
        bench.taker.shut()
        bench.taker.error = SlowConsumer("nobody reads")
        bench.emit(rig, b"again")
        bench.carriage.ask(3, data, 9.0)
        bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert len(bench.asked) == 1
        assert [row[3] for row in bench.wire.of(ANSWER) if row[0] == 3] == ["SLOW_CONSUMER"]

    rig.run(main())


def test_a_critical_event_has_the_urgent_stream_to_itself(rig):
    """All that belongs to it goes there; an ordinary one keeps to the other."""

    async def main():
        for lane, urgent in ((Lane.CRITICAL, True), (Lane.LOW, False)):
            bench = Bench(rig, lane=lane)
            bench.emit(rig, b"a")
            bench.carriage.ask(1, bench.packer.pack(rig.event(1, producer="engine/p"), 0.0), 9.0)
            await asyncio.sleep(2)
            assert {way for way, _ in bench.wire.sent} == {urgent}
            assert [message[0] for _, message in bench.wire.sent] == [EMITTED, ANSWER]

    rig.run(main())


def test_a_deadline_is_the_hosts_first(rig):
    """It stops the handler and abandons it; only then does this side give up."""

    async def main():
        at = 5_000.0
        assert Bench(rig, deadline=at).carriage.give_up_at == pytest.approx(at + 0.05 + 2.0 + MARGIN_S)
        assert Bench(rig).carriage.give_up_at == float("inf")

    rig.run(main())


def test_an_answer_is_plain():
    """Everything of an outcome."""
    assert answer_of(3, Outcome("failed", b"v", "C", "m", True)) == (ANSWER, 3, "failed", b"v", "C", "m", True)


def test_a_handler_there_says_what_becomes_of_its_run_unread(rig):
    """The session here is told so, for as long as the event is not answered; nonsense ends the connection."""

    async def main():
        bench = Bench(rig, run="r1")
        told = []
        bench.taker.when_unread = lambda *about: told.append(about)
        bench.carriage.when_unread("close")
        with pytest.raises(PeerProtocolError):
            bench.carriage.when_unread("stop")
        bench.carriage.finish(HANDLED)
        bench.carriage.when_unread("close")
        env = bench.env
        assert told == [(env[3], env[4], "r1", "close"), (env[3], env[4], "r1", "pause")]

    rig.run(main())
