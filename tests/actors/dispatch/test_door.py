"""Each event of a list has its own answer, and a place until it comes in or is given back."""

from __future__ import annotations

import asyncio

from laneway.actors.dispatch.books import Books
from laneway.actors.dispatch.cancels import Cancel
from laneway.actors.dispatch.door import Door
from laneway.actors.dispatch.journeys import Journeys
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.errors import Draining, LocalProtocolError, PeerProtocolError
from laneway.routing.express import Express
from laneway.routing.lanes import Lane


class Desk:
    """A door with real decisions behind it, and what it tells."""

    def __init__(self, rig):
        self.rig = rig
        clock = rig.VirtualClock(asyncio.get_running_loop())
        kinds = KindTable([Kind("WORK", Lane.NORMAL, direction=IN), Kind("URGENT", Lane.CRITICAL, direction=IN)])
        self.core, self.books = DispatchCore(kinds, DispatchPolicy()), Books(lambda error: None)
        self.core.add_pool(PoolRoute("p", ("WORK", "URGENT")))
        self.acted, self.arrived, self.counted, self.told = [], [], [], []
        self.door = Door(
            self.core,
            self.books,
            Journeys(None, clock),
            clock,
            control=frozenset({"CANCEL"}),
            act=self.acted.append,
            arrived=self.arrived.append,
            count=lambda name, times=1, **labels: self.counted.append((name, times, labels)),
        )

    def event(self, counter, kind="WORK", **fields):
        return self.rig.event(counter, kind=kind, **fields)

    def on_done(self, ended):
        self.told += [(env[1], outcome.status) for env, outcome in ended]


def test_each_event_of_a_list_has_its_own_answer(rig):
    """One that is refused does not hold up its neighbours; the ids of a list are used once, too."""

    async def main():
        desk = Desk(rig)
        events = [desk.event(1), desk.event(2, kind="NONE"), desk.event(3), desk.event(1)]
        one, none, three, again = desk.door.admit(events)
        assert (one, three) == (events[0], events[2])
        assert isinstance(none, PeerProtocolError)
        assert isinstance(again, PeerProtocolError)
        assert (len(desk.door.reserved), desk.door.refused) == (2, 2)
        desk.door.enqueue([one, three], desk.on_done)
        assert (desk.arrived, len(desk.books), len(desk.door.reserved)) == ([{"p": False}], 2, 0)

    rig.run(main())


def test_a_list_wakes_each_pool_once_and_says_if_it_is_critical(rig):
    """However many events there are."""

    async def main():
        desk = Desk(rig)
        desk.door.offer(
            [desk.event(n, kind="URGENT", lane=0) if n == 2 else desk.event(n) for n in range(1, 9)], desk.on_done
        )
        assert desk.arrived == [{"p": True}]

    rig.run(main())


def test_refused_offers_are_counted_by_code(rig):
    """Once per code, with how many."""

    async def main():
        desk = Desk(rig)
        refusals = desk.door.offer([desk.event(n, kind="NONE") for n in (1, 2)], desk.on_done)
        assert [error.code for error in refusals] == ["MALFORMED"] * 2
        assert desk.counted == [("event.refused", 2, {"code": "MALFORMED"})]

    rig.run(main())


def test_a_cancel_meets_what_is_reserved_and_what_comes_later(rig):
    """Neither is queued; both are told."""

    async def main():
        desk = Desk(rig)
        reserved = desk.door.admit([desk.event(1, run="r"), desk.event(2, run="q")])
        desk.door.cancel(Cancel("t", "s", run="r"))
        desk.door.enqueue(reserved, desk.on_done)
        desk.door.offer([desk.event(3, run="r")], desk.on_done)
        assert desk.told == [(1, "cancelled"), (3, "cancelled")]
        assert (len(desk.books), desk.core.statistics().pending, desk.door.remembered) == (1, 1, 1)

    rig.run(main())


def test_while_draining_only_what_belongs_to_accepted_work_comes_in(rig):
    """Then nothing; what was reserved is answered when it comes."""

    async def main():
        desk = Desk(rig)
        reserved = desk.door.admit([desk.event(1)])
        desk.door.draining = True
        assert isinstance(desk.door.admit([desk.event(2)])[0], Draining)
        assert desk.door.offer([desk.event(3)], desk.on_done, nested=True) == [None]
        desk.door.closed = True
        assert isinstance(desk.door.admit([desk.event(4)], nested=True)[0], Draining)
        desk.door.enqueue(reserved, desk.on_done)
        assert desk.told == [(1, "cancelled")]

    rig.run(main())


def test_what_was_not_admitted_or_was_given_back_does_not_come_in(rig):
    """Its neighbours in front of it do."""

    async def main():
        desk = Desk(rig)
        one, two = desk.door.admit([desk.event(1), desk.event(2)])
        desk.door.release(two)
        try:
            desk.door.enqueue([one, two], desk.on_done)
        except LocalProtocolError:
            assert (len(desk.books), desk.arrived) == (1, [{"p": False}])
        else:
            raise AssertionError("it came in")

    rig.run(main())


def test_control_events_are_acted_on_in_their_turn(rig):
    """They are reserved and entered like others, and never queued."""

    async def main():
        desk = Desk(rig)
        met = []
        desk.door._act = lambda env: met.append(desk.core.backlog("p"))
        desk.door.offer([desk.event(1), desk.event(2, kind="CANCEL"), desk.event(3)], desk.on_done)
        assert met == [1]
        assert (desk.core.statistics().pending, len(desk.books)) == (2, 3)

    rig.run(main())


def _seen(desk):
    """Kinds whose first event has come: from then on they come in as frames."""
    desk.door.offer([desk.event(1_000, producer="x")], None)


def test_a_frame_comes_in_as_it_was_let_in(rig):
    """One reservation, one waking; in the books and in the queue in order; its ids are in work meanwhile."""

    async def main():
        desk = Desk(rig)
        _seen(desk)
        frame = [desk.event(n) for n in range(1, 9)]
        assert desk.door.admit(frame) is frame
        assert (len(desk.door.reserved), desk.door.reserved.single) == (8, {})
        (again,) = desk.door.admit([desk.event(5)])
        assert isinstance(again, LocalProtocolError)
        desk.door.enqueue(frame, desk.on_done)
        assert (len(desk.door.reserved), len(desk.books), desk.arrived[1:]) == (0, 9, [{"p": False}])
        again = desk.door.admit([desk.event(n) for n in range(8, 14)])
        assert [isinstance(answer, LocalProtocolError) for answer in again] == [True] + [False] * 5
        assert [env[1] for env in desk.core.take("p", 20, 0.0)] == [1_000, *range(1, 9)]

    rig.run(main())


def test_a_cancel_meets_some_of_a_reserved_frame(rig):
    """Those end, the others are queued; each is told once."""

    async def main():
        desk = Desk(rig)
        _seen(desk)
        frame = [desk.event(n, run="r" if n % 3 == 0 else "q") for n in range(1, 9)]
        assert desk.door.admit(frame) is frame
        desk.door.cancel(Cancel("t", "s", run="r"))
        desk.door.enqueue(frame, desk.on_done)
        assert desk.told == [(3, "cancelled"), (6, "cancelled")]
        assert (len(desk.books), desk.core.statistics().pending, desk.core.backlog("p")) == (7, 7, 7)

    rig.run(main())


def test_a_cancel_in_one_session_leaves_the_frames_of_others_whole(rig, monkeypatch):
    """What is remembered of one session is looked for in its own events only."""

    async def main():
        desk = Desk(rig)
        desk.door.cancel(Cancel("t", "s", run="r1", reason="stop"))
        whole, enqueue = [], Express.enqueue
        monkeypatch.setattr(Express, "enqueue", lambda self, frame: whole.append(frame.session) or enqueue(self, frame))
        for session in ("s", "other"):
            desk.door.offer([desk.event(n, session=session, run="r1") for n in range(1, 9)], desk.on_done)
        assert whole == ["other"]
        assert (len(desk.told), len(desk.books)) == (8, 8)

    rig.run(main())


def test_one_of_a_reserved_frame_can_be_given_back(rig):
    """The others come in, in lists of any length; the whole does not."""

    async def main():
        desk = Desk(rig)
        _seen(desk)
        frame = [desk.event(n) for n in range(1, 9)]
        assert desk.door.admit(frame) is frame
        desk.door.release(frame[4])
        desk.door.enqueue(frame[:4], desk.on_done)
        desk.door.enqueue(frame[5:7], desk.on_done)
        desk.door.release(frame[7])
        statistics = desk.core.statistics()
        assert (statistics.released, statistics.pending, len(desk.door.reserved)) == (2, 7, 0)
        try:
            desk.door.enqueue(frame, desk.on_done)
        except LocalProtocolError:
            assert len(desk.books) == 7
        else:
            raise AssertionError("it came in twice")

    rig.run(main())


def test_a_frame_that_the_shutdown_overtakes_is_answered(rig):
    """It was reserved, so each of its events is told of, once; no other is let in."""

    async def main():
        desk = Desk(rig)
        _seen(desk)
        frame = [desk.event(n) for n in range(1, 9)]
        assert desk.door.admit(frame) is frame
        desk.door.closed = True
        assert all(isinstance(answer, Draining) for answer in desk.door.admit([desk.event(n) for n in range(9, 17)]))
        desk.door.enqueue(frame, desk.on_done)
        assert desk.told == [(n, "cancelled") for n in range(1, 9)]
        assert desk.core.statistics().pending == 1

    rig.run(main())
