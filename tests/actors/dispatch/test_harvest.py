"""What ends in one turn of the loop is settled together, once, and nothing is left behind."""

from __future__ import annotations

import asyncio

from laneway.actors.dispatch.harvest import Harvest
from laneway.actors.ports import Outcome

DONE = Outcome("handled")


def test_what_ends_in_one_turn_of_the_loop_is_settled_together(rig):
    """In order; what ends afterwards is a list of its own."""

    async def main():
        settled = []
        harvest = Harvest(lambda ended: settled.append([env[1] for env, _ in ended]))
        for counter in (1, 2):
            harvest(rig.event(counter), DONE)
        assert settled == []
        await asyncio.sleep(0)
        harvest(rig.event(3), DONE)
        harvest.all([(rig.event(4), DONE), (rig.event(5), DONE)])
        await asyncio.sleep(0)
        harvest.all([(rig.event(6), DONE)])
        await asyncio.sleep(0)
        assert settled == [[1, 2], [3, 4, 5], [6]]

    rig.run(main())


def test_it_can_be_settled_at_once(rig):
    """Then the next turn of the loop has nothing to settle."""

    async def main():
        settled = []
        harvest = Harvest(settled.append)
        harvest(rig.event(1), DONE)
        harvest.settle()
        harvest.settle()
        await asyncio.sleep(0)
        assert len(settled) == 1

    rig.run(main())


def test_without_a_loop_nothing_is_lost(rig):
    """A handler that is torn down with its loop is answered all the same."""
    settled = []
    Harvest(settled.append)(rig.event(1), DONE)
    assert len(settled) == 1
