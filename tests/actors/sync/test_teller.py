"""Telling views: each at its own pace, tried again, given up, taken elsewhere, ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

from laneway.actors.ports import Out
from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.teller import Teller
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, SESSION, TRACE
from laneway.routing.errors import LaneFull, Overloaded, UnknownSession
from tests.simulation.loop import run


class View:
    """Something to tell, until it is taken."""

    def __init__(self, session, *bodies, needs_content=False):
        self.session, self.bodies, self.trace = session, list(bodies), f"trace of {session}"
        self.needs_content = needs_content

    @property
    def dirty(self):
        return bool(self.bodies)


class Room:
    """A document that gives a view what it has."""

    tenant, name, resident = "t", "d", True
    archive = SimpleNamespace(key="t/doc/d")

    def __init__(self):
        self.left = []

    def follows(self, view):
        return view not in self.left

    def leave(self, view):
        self.left.append(view)

    async def take(self, view):
        bodies, view.bodies = view.bodies, []
        return [Out("DOC_SYNC", body, "d") for body in bodies]


class House:
    """A teller, and what came of it."""

    def __init__(self):
        self.told, self.errors, self.stalled = [], [], {}
        self.prepared = self.lost = 0
        clock = SimpleNamespace(now=lambda: asyncio.get_running_loop().time())
        self.teller = Teller(
            self,
            clock,
            KindTable(),
            replace(SyncPolicy(), tick_s=0.01, state_tick_s=0.01, retry_s=0.5),
            prepare=self.prepare,
            lost_view=self.count,
            moved=lambda room, error: None,
        )

    def prepare(self, room):
        self.prepared += 1
        if self.prepared == 1:
            raise Overloaded("too many documents", retry_after_ms=10)

    def count(self):
        self.lost += 1

    async def emit(self, env):
        if env[SESSION] in self.stalled:
            await self.stalled[env[SESSION]].wait()
        if self.errors:
            raise self.errors.pop()
        self.told.append((env[SESSION], env[BODY], env[TRACE]))


def test_a_session_that_does_not_read_delays_nobody():
    """Each view has its own task; all is told in order once it reads."""

    async def main():
        house, room = House(), Room()
        house.stalled["slow"] = asyncio.Event()
        slow, quick = View("slow", b"1", b"2"), View("quick", b"1")
        house.teller.tell(room, slow)
        house.teller.tell(room, quick)
        await asyncio.sleep(1)
        assert house.told == [("quick", b"1", "trace of quick")]
        assert len(house.teller) == 1
        house.stalled["slow"].set()
        await asyncio.sleep(1)
        assert [body for session, body, _ in house.told if session == "slow"] == [b"1", b"2"]
        assert len(house.teller) == 0

    run(main())


def test_a_failure_is_tried_again_and_nothing_is_told_twice():
    """What was told stays told; a document without space is asked for again."""

    async def main():
        house, room = House(), Room()
        house.errors = [LaneFull("full", retry_after_ms=10)]
        view = View("s", b"1", b"2", needs_content=True)
        house.teller.tell(room, view)
        await asyncio.sleep(5)
        assert [body for _, body, _ in house.told] == [b"1", b"2"]
        assert (house.prepared, house.lost) == (2, 0)

    run(main())


def test_a_session_that_is_gone_loses_its_view():
    """An error that is not to be repeated, or the fifth in a row, ends it, and it is counted."""

    async def main():
        house, room = House(), Room()
        gone, hopeless = View("gone", b"1"), View("hopeless", b"1")
        house.errors = [UnknownSession("gone")]
        house.teller.tell(room, gone)
        await asyncio.sleep(1)
        assert (room.left, house.lost) == ([gone], 1)
        house.errors = [LaneFull("full", retry_after_ms=10) for _ in range(5)]
        house.teller.tell(room, hopeless)
        await asyncio.sleep(10)
        assert (room.left, house.lost, house.told) == ([gone, hopeless], 2, [])

    run(main())


def test_nobody_is_told_after_the_end():
    """Stopped views and a closed teller leave no task behind."""

    async def main():
        house, room = House(), Room()
        house.stalled = {"a": asyncio.Event(), "b": asyncio.Event()}
        one, other = View("a", b"1"), View("b", b"1")
        for view in (one, other):
            house.teller.tell(room, view)
        await asyncio.sleep(0.1)
        house.teller.stop(one)
        await asyncio.sleep(0.1)
        assert len(house.teller) == 1
        await house.teller.close()
        await house.teller.close()
        house.teller.tell(room, View("c", b"1"))
        assert (len(house.teller), house.told) == (0, [])

    run(main())
