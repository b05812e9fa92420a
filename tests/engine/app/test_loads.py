"""Loads of all fronts together, read by the one that scales."""

from __future__ import annotations

import asyncio

from laneway import Config, Engine
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.loads import Loads
from laneway.routing.envelope import envelope
from laneway.routing.membership import FRONT, POOL, Member, View
from tests.actors.pairs import connect
from tests.engine.app import hands

VIEW = View(
    1,
    (Member("a", "1", FRONT, "x"), Member("b", "1", FRONT, "x"), Member("h", "1", POOL, "x", pools=("here",))),
    settled=True,
)


class Side:
    """A front with so many events waiting for a pool that has no cells yet."""

    def __init__(self, name: str, waiting: int) -> None:
        self.board, self.questions = Switchboard(), Questions()
        self.board.add(self.questions)
        engine = Engine(Config.model_validate({"runtime": {"kind": "ray"}}))
        engine.pool("here", ["HERE"], hands.here)
        for number in range(1, waiting + 1):
            event = envelope("HERE", producer="p", counter=number, tenant="t", session="s", lane=2)
            assert engine.dispatcher.offer_batch([event]) == [None]

        async def hosts(pool: str) -> int:
            return 2

        self.loads = Loads(
            name,
            lambda: ["here"],
            books=engine.dispatcher.statistics,
            view=lambda: VIEW,
            hosts=hosts,
            questions=self.questions,
            peers=self.board.peers,
            clock=engine.clock,
        )


def test_the_first_front_reads_for_all_and_the_others_read_nothing() -> None:
    """What waits at both is added up; hosts count once."""

    async def main() -> None:
        one, two = Side("a", 3), Side("b", 4)
        connect(one.board, two.board, "a", "b")
        load = (await one.loads.read())["here"]
        assert (load.waiting, load.wanted, load.ready, load.pending) == (7, 2, 1, 1)
        assert await two.loads.read() == {}

    asyncio.run(main())


def test_a_front_that_does_not_answer_counts_as_idle() -> None:
    """Its part comes with a later look."""

    async def main() -> None:
        one, two = Side("a", 3), Side("b", 4)
        mine, _ = connect(one.board, two.board, "a", "b")
        reading = asyncio.ensure_future(one.loads.read())
        await asyncio.sleep(0)
        mine.cut()
        assert (await reading)["here"].waiting == 3

    asyncio.run(main())
